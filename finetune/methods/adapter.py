"""Bottleneck adapters in the parallel form of He et al. 2022 (arXiv 2110.04366): beside every
feed-forward block, h = FFN(x) + U act(D x + d) + u with the model's own activation.

The activation works on each element, so the bottleneck is more columns of the block itself: the
merge appends D to the block's first layer and U to its second, exactly, and what ships is the same
architecture with a larger intermediate size.

adapter_model.safetensors holds, for a bottleneck of width w: FIRST.down.weight (w, hidden),
FIRST.down.bias (w,), SECOND.up.weight (hidden, w), SECOND.up.bias (hidden,), where FIRST and SECOND
are the names of the block's layers; adapter_config.json lists them.
"""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedModel

from edgeloop.errors import MergeError, TrainingError
from edgeloop.recipe import Finetune
from finetune.encoder import hidden_size
from finetune.methods import method
from finetune.methods.method import Merged, Tensors
from finetune.methods.targets import feed_forward_pairs
from finetune.model import TaskModel

KIND = "PARALLEL_BOTTLENECK"
MULTIPLE = 8  # kernels want the intermediate size to be one of it
# What the architectures call the size between the two layers.
SIZES = ("intermediate_size", "hidden_dim")


class BottleneckSettings(BaseModel):
    """adapter_config.json: the width, and the (first, second) layer of every block."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    adapter_type: str
    base_model_name_or_path: str
    width: int
    blocks: tuple[tuple[str, str], ...]


class WithDown(torch.nn.Module):  # type: ignore[misc]
    """A block's first layer and D: (..., hidden) -> (..., intermediate + width)."""

    def __init__(self, layer: torch.nn.Linear, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.down = torch.nn.Linear(layer.in_features, width)
        torch.nn.init.normal_(self.down.weight, std=layer.in_features**-0.5)
        torch.nn.init.zeros_(self.down.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return torch.cat([self.layer(states), self.down(states)], dim=-1)


class WithUp(torch.nn.Module):  # type: ignore[misc]
    """A block's second layer and U, which is 0 before training: the model starts as its base."""

    def __init__(self, layer: torch.nn.Linear, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.up = torch.nn.Linear(width, layer.out_features)
        torch.nn.init.zeros_(self.up.weight)
        torch.nn.init.zeros_(self.up.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """See the class."""
        inner, bottleneck = states.split([self.layer.in_features, self.up.in_features], dim=-1)
        answer: torch.Tensor = self.layer(inner) + self.up(bottleneck)
        return answer


class AdapterMethod(method.OnStoredBase):
    """A bottleneck beside every feed-forward block."""

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        method.train_only_head(model)
        blocks = feed_forward_pairs(model.encoder, "adapter")
        inner = _inner_size(model.encoder, blocks)
        hidden = hidden_size(model.encoder.config)
        width = bottleneck_width(hidden, inner, settings.adapter.reduction_factor)
        chosen = BottleneckSettings(
            adapter_type=KIND, base_model_name_or_path=base_name, width=width, blocks=blocks
        )
        _insert(model, chosen)

    def save(self, model: TaskModel, folder: Path) -> None:
        settings: BottleneckSettings = model.encoder.edgeloop_config
        method.write_document(settings.model_dump(mode="json"), folder)
        state = model.encoder.state_dict()
        names = bottleneck_shapes(settings, hidden_size(model.encoder.config))
        method.save_tensors({name: state[name] for name in names}, folder / method.ADAPTER_WEIGHTS)

    def restore(self, model: TaskModel, folder: Path) -> None:
        settings, tensors = read_bottlenecks(folder)
        method.account(bottleneck_shapes(settings, hidden_size(model.encoder.config)), tensors)
        _insert(model, settings)
        model.encoder.load_state_dict(tensors, strict=False)

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        settings, tensors = read_bottlenecks(folder)
        method.account(bottleneck_shapes(settings, hidden_size(base.config)), tensors)
        inner = _inner_size(base, settings.blocks)
        config = {name: inner + settings.width for name in SIZES if hasattr(base.config, name)}
        merged = grow(base.state_dict(), tensors, settings)
        summed = 4 * len(settings.blocks)
        return Merged(merged, len(tensors), summed, len(merged) - summed, config)


def read_bottlenecks(folder: Path) -> tuple[BottleneckSettings, dict[str, torch.Tensor]]:
    """What `save` wrote. Raises MergeError where it is something else."""
    try:
        settings = BottleneckSettings.model_validate(method.read_document(folder))
    except ValidationError as problem:
        raise MergeError(f"{folder}: not a bottleneck adapter ({problem})") from problem
    if settings.adapter_type != KIND:
        raise MergeError(f"{folder}: not a bottleneck adapter but {settings.adapter_type!r}")
    return settings, method.read_tensors(folder / method.ADAPTER_WEIGHTS)


def grow(base: Tensors, adapter: Tensors, settings: BottleneckSettings) -> dict[str, torch.Tensor]:
    """The base's tensors with D's rows below each first layer's, U's columns beside each second
    layer's and u added to its bias in fp32, all in the base's dtype.

    Raises MergeError where the base has no such layer.
    """
    merged = dict(base)
    lost = [n for block in settings.blocks for n in block if f"{n}.weight" not in base]
    if lost:
        raise MergeError(f"the base has no {', '.join(lost)}; the adapter is another base's")
    for first, second in settings.blocks:
        for part in ("weight", "bias"):
            rows = base[f"{first}.{part}"]
            below = adapter[f"{first}.down.{part}"].to(rows.dtype)
            merged[f"{first}.{part}"] = torch.cat([rows, below])
        columns, bias = base[f"{second}.weight"], base[f"{second}.bias"]
        beside = adapter[f"{second}.up.weight"].to(columns.dtype)
        merged[f"{second}.weight"] = torch.cat([columns, beside], dim=1)
        merged[f"{second}.bias"] = (bias.float() + adapter[f"{second}.up.bias"].float()).to(
            bias.dtype
        )
    return merged


def bottleneck_width(hidden: int, inner: int, factor: int) -> int:
    """hidden / factor, rounded up until the grown intermediate size is a multiple of 8."""
    wanted = -(-hidden // factor)
    return wanted + -(inner + wanted) % MULTIPLE


def _inner_size(encoder: torch.nn.Module, blocks: tuple[tuple[str, str], ...]) -> int:
    """The intermediate size of all blocks.

    Raises TrainingError where they differ, have no bias, or the config does not know the size.
    """
    layers = [encoder.get_submodule(name) for block in blocks for name in block]
    sizes = {encoder.get_submodule(first).out_features for first, _ in blocks}
    known = [name for name in SIZES if {getattr(encoder.config, name, None)} == sizes]
    if not known or any(layer.bias is None for layer in layers):
        raise TrainingError(
            f"finetune.method adapter: architecture {encoder.config.model_type!r} has feed-forward "
            "blocks that cannot be widened by its config; use finetune.method lora"
        )
    return int(sizes.pop())


def _insert(model: TaskModel, settings: BottleneckSettings) -> None:
    for first, second in settings.blocks:
        for name, kind in ((first, WithDown), (second, WithUp)):
            parent, _, leaf = name.rpartition(".")
            layer = model.encoder.get_submodule(name)
            setattr(model.encoder.get_submodule(parent), leaf, kind(layer, settings.width))
    model.encoder.edgeloop_config = settings


def bottleneck_shapes(settings: BottleneckSettings, hidden: int) -> dict[str, tuple[int, ...]]:
    """Every tensor that this adapter must consist of."""
    shapes: dict[str, tuple[int, ...]] = {}
    for first, second in settings.blocks:
        shapes[f"{first}.down.weight"] = (settings.width, hidden)
        shapes[f"{first}.down.bias"] = (settings.width,)
        shapes[f"{second}.up.weight"] = (hidden, settings.width)
        shapes[f"{second}.up.bias"] = (hidden,)
    return shapes

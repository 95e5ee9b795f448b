"""IA3 (arXiv 2205.05638): a learned factor for every key, value and feed-forward unit; PEFT trains
and saves it, the merge is ours.
"""

from pathlib import Path

import torch
from peft import IA3Config, TaskType
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedModel

from edgeloop.errors import MergeError
from edgeloop.recipe import Finetune
from finetune.methods import method
from finetune.methods.method import PREFIX, Merged, Tensors
from finetune.methods.targets import feed_forward_pairs, key_value_targets
from finetune.model import TaskModel

FACTOR = ".ia3_l"


class Ia3Settings(BaseModel):
    """What a merge must know of adapter_config.json."""

    model_config = ConfigDict(frozen=True)

    peft_type: str
    target_modules: tuple[str, ...]
    feedforward_modules: tuple[str, ...]


class Ia3Method(method.PeftMethod):
    """Factors on keys, values and what enters a feed-forward block's second layer."""

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        attention = list(key_value_targets(model.encoder, "ia3"))
        seconds = [second for _, second in feed_forward_pairs(model.encoder, "ia3")]

        def config() -> IA3Config:
            return IA3Config(
                task_type=TaskType.FEATURE_EXTRACTION,
                target_modules=[*attention, *seconds],
                feedforward_modules=seconds,
            )

        self.wrap(model, config, base_name)

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        settings, tensors = read_ia3(folder)
        return scale(base.state_dict(), tensors, settings)


def read_ia3(folder: Path) -> tuple[Ia3Settings, dict[str, torch.Tensor]]:
    """An adapter in PEFT's format. Raises MergeError where it is not an IA3 adapter."""
    document = method.read_document(folder)
    try:
        settings = Ia3Settings.model_validate(document)
    except ValidationError as problem:
        raise MergeError(f"{folder}: not an IA3 adapter ({problem})") from problem
    refused = [key for key in ("fan_in_fan_out", "modules_to_save") if document.get(key)]
    if settings.peft_type != "IA3" or refused:
        raise MergeError(
            f"{folder}/{method.ADAPTER_CONFIG}: cannot merge {settings.peft_type} "
            f"{' '.join(refused)}; fine-tune again with method ia3"
        )
    return settings, method.read_tensors(folder / method.ADAPTER_WEIGHTS)


def scale(base: Tensors, adapter: Tensors, settings: Ia3Settings) -> Merged:
    """The encoder's tensors with the factors in them, in the base's dtype: of keys and values the
    rows and the bias, of a feed-forward block's second layer the columns.

    Raises MergeError that names every adapter tensor that is missing, left over or misshapen.
    """
    inputs = set(settings.feedforward_modules)
    expected: dict[str, tuple[int, ...]] = {}
    for module in settings.target_modules:
        if f"{module}.weight" not in base:
            raise MergeError(f"target module {module}: the base has no {module}.weight")
        rows, columns = base[f"{module}.weight"].shape
        expected[f"{PREFIX}{module}{FACTOR}"] = (1, columns) if module in inputs else (rows, 1)
    method.account(expected, adapter)
    merged = dict(base)
    for module in settings.target_modules:
        factor = adapter[f"{PREFIX}{module}{FACTOR}"].float()
        merged[f"{module}.weight"] = _times(base[f"{module}.weight"], factor)
        if module not in inputs and f"{module}.bias" in base:
            merged[f"{module}.bias"] = _times(base[f"{module}.bias"], factor[:, 0])
    summed = sum(merged[name] is not base[name] for name in base)
    return Merged(merged, len(adapter), summed, len(base) - summed)


def _times(tensor: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """In fp32, rounded once."""
    return (tensor.float() * factor).to(tensor.dtype)

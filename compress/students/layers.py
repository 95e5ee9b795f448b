"""An encoder's layers, whatever its architecture: found, listened to, and thinned out."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from compress.modules import Exported
from edgeloop.errors import ExportError


def encoder_layers(module: Exported) -> torch.nn.ModuleList:
    """The one list of as many layers as the model's configuration names.

    Raises ExportError where there is no such list, or more than one.
    """
    return _find(module)[1]


def keep_layers(module: Exported, kept: Sequence[int]) -> Exported:
    """A copy of the module with only these layers, in this order; all else is as it was."""
    student = copy.deepcopy(module)
    parent, layers, name = _owner(student)
    setattr(parent, name, torch.nn.ModuleList([layers[i] for i in kept]))
    _tell_configs(student, kept)
    for place, layer in enumerate(getattr(parent, name)):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = place
    return student


def _tell_configs(module: torch.nn.Module, kept: Sequence[int]) -> None:
    """Number and kinds of the layers, in every configuration that a part of the module holds."""
    configs = {id(c): c for part in module.modules() if (c := getattr(part, "config", None))}
    for config in configs.values():
        config.num_hidden_layers = len(kept)
        kinds = getattr(config, "layer_types", None)
        if isinstance(kinds, list | tuple):
            config.layer_types = [kinds[i] for i in kept]


@contextmanager
def listening(
    layers: Sequence[torch.nn.Module], mask: torch.Tensor
) -> Iterator[list[torch.Tensor]]:
    """Fills the list with each layer's output as a forward pass runs inside: the mean over the
    tokens under `mask` (batch, seq), a (batch, hidden) per layer, in fp32."""
    heard: list[torch.Tensor] = []
    weights = (mask / mask.sum(dim=1, keepdim=True).clamp(min=1)).float().unsqueeze(1)

    def hear(_: torch.nn.Module, __: Any, output: Any) -> None:
        states = output[0] if isinstance(output, tuple) else output  # (batch, seq, hidden)
        heard.append((weights @ states.float()).squeeze(1))

    hooks = [layer.register_forward_hook(hear) for layer in layers]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def _owner(module: Exported) -> tuple[torch.nn.Module, torch.nn.ModuleList, str]:
    path, layers = _find(module)
    parent, _, name = path.rpartition(".")
    return module.get_submodule(parent), layers, name


def _find(module: Exported) -> tuple[str, torch.nn.ModuleList]:
    config = module.model.config
    count = int(config.num_hidden_layers)
    found = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == count
    ]
    if len(found) != 1:
        raise ExportError(
            f"{config.model_type}: {len(found)} lists of {count} layers were found in this model, "
            "one is needed to make a student of it; leave students out of compress.candidates"
        )
    return found[0]

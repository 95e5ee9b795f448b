"""Which linear layers of an encoder a method works on."""

import torch

from edgeloop.errors import TrainingError
from edgeloop.recipe_finetune import Targets


def linear_targets(encoder: torch.nn.Module, targets: Targets, key: str) -> tuple[str, ...]:
    """Full names of the encoder's linear layers that `targets` names by full name or by ending.

    Raises TrainingError with the recipe's `key` where a name matches none.
    """
    modules = encoder.named_modules()
    linear = [name for name, module in modules if isinstance(module, torch.nn.Linear)]
    if targets == "all-linear":
        return tuple(linear)
    unmatched = [t for t in targets if not any(_named(n, t) for n in linear)]
    if unmatched:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        raise TrainingError(
            f"{key}: {', '.join(unmatched)} names no linear layer of "
            f"{encoder.config.model_type}; it has {', '.join(ends)}"
        )
    return tuple(name for name in linear if any(_named(name, t) for t in targets))


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")

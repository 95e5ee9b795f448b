"""Which linear layers of an encoder a method works on."""

import torch

from edgeloop.errors import TrainingError
from edgeloop.recipe_finetune import Targets
from finetune.encoder import hidden_size

# What the architectures of transformers call the projections to keys and values.
KEYS = ("key", "key_proj", "k_proj", "k_lin", "k")
VALUES = ("value", "value_proj", "v_proj", "v_lin", "v")


def linear_targets(encoder: torch.nn.Module, targets: Targets, key: str) -> tuple[str, ...]:
    """Full names of the encoder's linear layers that `targets` names by full name or by ending.

    Raises TrainingError with the recipe's `key` where a name matches none.
    """
    linear = [name for name, _ in _linear(encoder)]
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


def key_value_targets(encoder: torch.nn.Module, method: str) -> tuple[str, ...]:
    """Full names of the projections to keys and values.

    Raises TrainingError where the architecture has none of its own (ModernBERT's are one layer).
    """
    names = [name for name, _ in _linear(encoder)]
    keys = [name for name in names if name.rpartition(".")[2] in KEYS]
    values = [name for name in names if name.rpartition(".")[2] in VALUES]
    if not keys or len(keys) != len(values):
        raise _unfit(encoder, method, "has no linear layers of their own for keys and values")
    return tuple(name for name in names if name in {*keys, *values})


def feed_forward_pairs(encoder: torch.nn.Module, method: str) -> tuple[tuple[str, str], ...]:
    """(first, second) linear layer of every feed-forward block, hidden -> intermediate -> hidden
    with nothing but an activation between them, by their shapes and order.

    Raises TrainingError where a block is built in another way: gated ones (ModernBERT) have two
    layers that lead in.
    """
    hidden = hidden_size(encoder.config)
    wide = [
        (name, layer.in_features, layer.out_features)
        for name, layer in _linear(encoder)
        if max(layer.in_features, layer.out_features) > hidden
    ]
    pairs = list(zip(wide[::2], wide[1::2], strict=False))
    plain = all(
        (a[1], a[2]) == (hidden, b[1]) and b[2] == hidden and _parent(a[0]) == _parent(b[0])
        for a, b in pairs
    )
    if not pairs or len(wide) % 2 or not plain:
        raise _unfit(encoder, method, "has no plain feed-forward blocks of two linear layers")
    return tuple((first[0], second[0]) for first, second in pairs)


def _parent(name: str) -> str:
    """The block of a layer: its name up to the last number, or its module's."""
    parts = name.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1] if numbers else parts[:-1])


def _unfit(encoder: torch.nn.Module, method: str, what: str) -> TrainingError:
    return TrainingError(
        f"finetune.method {method}: architecture {encoder.config.model_type!r} {what}; "
        "use finetune.method lora"
    )


def _linear(encoder: torch.nn.Module) -> list[tuple[str, torch.nn.Linear]]:
    return [(n, m) for n, m in encoder.named_modules() if isinstance(m, torch.nn.Linear)]


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")

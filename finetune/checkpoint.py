"""The state of a training after an epoch, as one safetensors file, written aside and renamed:
trainable weights, best weights so far, AdamW's moments, the random state, and the epochs.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from edgeloop.records import Epoch
from edgeloop.rundir import write_atomic

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
EPOCHS = "epochs"
RANDOM = "random"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")

Weights = dict[str, torch.Tensor]


@dataclass
class Checkpoint:
    """`weights` and `best` by parameter name; the schedule follows from the number of epochs."""

    epochs: list[Epoch]
    weights: Weights
    best: Weights
    moments: dict[str, Weights]
    random_state: torch.Tensor


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def copy_weights(model: torch.nn.Module) -> Weights:
    """A copy of what is trained."""
    return {name: p.detach().clone() for name, p in trainable(model).items()}


def set_weights(model: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put such a copy back."""
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])


def write_checkpoint(
    folder: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: list[Epoch],
    best: Weights,
) -> None:
    """Replace the folder's checkpoint; a kill leaves the old one or the new one."""
    tensors = {RANDOM: torch.get_rng_state()}
    for name, parameter in trainable(model).items():
        tensors[f"weights/{name}"] = parameter.detach()
        tensors[f"best/{name}"] = best[name]
        for moment in MOMENTS:
            tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    metadata = {EPOCHS: json.dumps([epoch.model_dump() for epoch in epochs])}
    write_atomic(folder / CHECKPOINT, save(tensors, metadata))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None where there is none, or none that can be read."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            epochs = json.loads(file.metadata()[EPOCHS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        logger.warning("checkpoint=unreadable path=%s problem=%s training=restarts", path, problem)
        return None
    return Checkpoint(
        epochs=[Epoch.model_validate(epoch) for epoch in epochs],
        weights=_part(tensors, "weights"),
        best=_part(tensors, "best"),
        moments={moment: _part(tensors, moment) for moment in MOMENTS},
        random_state=tensors[RANDOM],
    )


def restore(
    checkpoint: Checkpoint, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Put model, optimizer and torch's random state back to where the checkpoint was taken."""
    set_weights(model, checkpoint.weights)
    for name, parameter in trainable(model).items():
        optimizer.state[parameter] = {m: checkpoint.moments[m][name] for m in MOMENTS}
    torch.set_rng_state(checkpoint.random_state)


def _part(tensors: Mapping[str, torch.Tensor], kind: str) -> Weights:
    prefix = f"{kind}/"
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

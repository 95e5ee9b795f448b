"""The state of a training, as one safetensors file, written aside and renamed: trained weights,
best weights so far, AdamW's moments, the random state, the epochs, how far the present one is.
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
PROGRESS = "progress"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
RANDOM = "random/"


@dataclass
class Checkpoint:
    """`weights` and `best` are flat, as finetune.arena has them, and so are the moments of each of
    the optimizer's groups. `steps` of the epoch after the last of `epochs` are done, in
    `train_seconds`, with a loss that sums to `loss` over their rows."""

    epochs: list[Epoch]
    steps: int
    loss: float
    train_seconds: float
    weights: torch.Tensor
    best: torch.Tensor
    moments: list[dict[str, torch.Tensor]]
    random: dict[str, torch.Tensor]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint; a kill leaves the old one or the new one."""
    tensors = {"weights": checkpoint.weights, "best": checkpoint.best}
    for i, group in enumerate(checkpoint.moments):
        tensors |= {f"{moment}/{i}": group[moment] for moment in MOMENTS}
    tensors |= {f"{RANDOM}{name}": state for name, state in checkpoint.random.items()}
    progress = {
        "epochs": [epoch.model_dump() for epoch in checkpoint.epochs],
        "steps": checkpoint.steps,
        "loss": checkpoint.loss,
        "train_seconds": checkpoint.train_seconds,
        "groups": len(checkpoint.moments),
    }
    write_atomic(folder / CHECKPOINT, save(tensors, {PROGRESS: json.dumps(progress)}))


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The folder's checkpoint; None where there is none, or none that can be read."""
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()[PROGRESS])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as problem:
        logger.warning("checkpoint=unreadable path=%s problem=%s training=restarts", path, problem)
        return None
    return Checkpoint(
        epochs=[Epoch.model_validate(epoch) for epoch in progress["epochs"]],
        steps=progress["steps"],
        loss=progress["loss"],
        train_seconds=progress["train_seconds"],
        weights=tensors["weights"],
        best=tensors["best"],
        moments=_moments(tensors, progress["groups"]),
        random={n.removeprefix(RANDOM): t for n, t in tensors.items() if n.startswith(RANDOM)},
    )


def _moments(tensors: Mapping[str, torch.Tensor], groups: int) -> list[dict[str, torch.Tensor]]:
    return [{moment: tensors[f"{moment}/{i}"] for moment in MOMENTS} for i in range(groups)]

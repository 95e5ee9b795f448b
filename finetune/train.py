"""The training loop: AdamW, linear warm-up and decay, validation after every epoch, early stopping,
the best epoch's weights. The same inputs give the same bits, killed and resumed or not.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import set_seed

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune, Training
from edgeloop.records import Epoch
from finetune.batches import Batch, Encoded, in_order, shuffled
from finetune.checkpoint import (
    Weights,
    copy_weights,
    read_checkpoint,
    restore,
    set_weights,
    trainable,
    write_checkpoint,
)
from finetune.model import TaskModel
from finetune.objectives import OBJECTIVES, distillation

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0

Say = Callable[[str], None]
OnEpoch = Callable[[Epoch], None]


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed Python, NumPy and torch, and let torch refuse what does not repeat. The model and its
    adapter must be built inside."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    set_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Every tensor here is written before it is read; filling new ones costs a sixth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def learning_rate(step: int, steps: int, settings: Finetune) -> float:
    """Linear warm-up from 0 over warmup_ratio of the steps, then linear decay to 0."""
    warmup = math.ceil(steps * settings.training.warmup_ratio)
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    return settings.learning_rate * (steps - step) / max(1, steps - warmup)


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The epoch of the highest validation figure, of equals the one with the smallest loss."""
    return max(epochs, key=lambda epoch: (epoch.validation_metric, -epoch.validation_loss))


def is_finished(epochs: list[Epoch], training: Training) -> bool:
    """All epochs done, or none better for early_stopping_patience epochs."""
    if not epochs:
        return False
    last = epochs[-1].epoch
    waited = last - best_epoch(epochs).epoch
    return last >= training.num_train_epochs or waited >= training.early_stopping_patience


def fit(
    model: TaskModel,
    train: Encoded,
    validation: Encoded,
    settings: Finetune,
    folder: Path,
    say: Say,
    on_epoch: OnEpoch | None = None,
) -> list[Epoch]:
    """Train, or go on from the folder's checkpoint; the model ends with the best epoch's weights.
    `on_epoch` hears of each epoch as it ends; what it raises ends the training.

    Raises TrainingError where the loss stops being a number.
    """
    job = Job(model, _optimizer(model, settings), train, validation, settings, say)
    epochs: list[Epoch] = []
    best: Weights = {}
    checkpoint = read_checkpoint(folder)
    if checkpoint is not None:
        restore(checkpoint, model, job.optimizer)
        epochs, best = checkpoint.epochs, checkpoint.best
        say(f"resumed after epoch {epochs[-1].epoch}")
    while not is_finished(epochs, settings.training):
        epoch = _epoch(len(epochs) + 1, job)
        epochs.append(epoch)
        if best_epoch(epochs) is epoch:
            best = copy_weights(model)
        write_checkpoint(folder, model, job.optimizer, epochs, best)
        say(_line(epoch, job))
        if on_epoch is not None:
            on_epoch(epoch)
    set_weights(model, best)
    return epochs


@dataclass(frozen=True)
class Job:
    """One training under way."""

    model: TaskModel
    optimizer: torch.optim.Optimizer
    train: Encoded
    validation: Encoded
    settings: Finetune
    say: Say


def _optimizer(model: torch.nn.Module, settings: Finetune) -> torch.optim.AdamW:
    """Biases and norms are not decayed."""
    parameters = list(trainable(model).values())
    decay = settings.training.weight_decay
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def _epoch(number: int, job: Job) -> Epoch:
    started = time.monotonic()
    train_loss = _train_once(number, job)
    figures = evaluate(job.model, job.validation)
    _check_finite(figures.loss, f"validation after epoch {number}", job.settings)
    return Epoch(
        epoch=number,
        train_loss=train_loss,
        validation_loss=figures.loss,
        validation_metric=figures.metric,
        seconds=time.monotonic() - started,
    )


def _train_once(number: int, job: Job) -> float:
    """One pass over the rows; returns the mean loss per row."""
    job.model.train()
    training = job.settings.training
    steps = math.ceil(len(job.train) / training.per_device_train_batch_size)
    total = 0.0
    said = time.monotonic()
    batches = shuffled(job.train, training.per_device_train_batch_size, training.seed, number)
    for step, batch in enumerate(batches):
        done = (number - 1) * steps + step
        for group in job.optimizer.param_groups:
            group["lr"] = learning_rate(done, steps * training.num_train_epochs, job.settings)
        loss = _step(job, batch, f"epoch {number}, step {step + 1}")
        total += loss * batch.rows
        if time.monotonic() - said >= PROGRESS_SECONDS:
            job.say(f"epoch {number}, step {step + 1} of {steps}, loss {loss:.3f}")
            said = time.monotonic()
    return total / len(job.train)


def _step(job: Job, batch: Batch, where: str) -> float:
    """One update; returns the batch's mean loss."""
    job.optimizer.zero_grad()
    loss = _loss(job, batch)
    value = float(loss.item())
    _check_finite(value, where, job.settings)
    loss.backward()
    parameters = trainable(job.model).values()
    torch.nn.utils.clip_grad_norm_(parameters, job.settings.training.max_grad_norm)
    job.optimizer.step()
    return value


def _loss(job: Job, batch: Batch) -> torch.Tensor:
    output = batch.output(job.model)
    loss = OBJECTIVES[job.train.task].loss(output, batch)
    if batch.soft is None:
        return loss
    weight = job.settings.retention.distillation_weight
    return (1.0 - weight) * loss + weight * distillation(output, batch.soft)


@dataclass(frozen=True)
class Figures:
    """Mean loss per row, and the task's figure (finetune.objectives)."""

    loss: float
    metric: float


def evaluate(model: torch.nn.Module, rows: Encoded) -> Figures:
    """Loss and figure on the rows."""
    model.eval()
    objective = OBJECTIVES[rows.task]
    with torch.inference_mode():
        answered = [(batch, batch.output(model)) for batch in in_order(rows)]
        loss = sum(objective.loss(output, batch).item() * batch.rows for batch, output in answered)
        return Figures(loss / len(rows), objective.metric(answered))


def _check_finite(loss: float, where: str, settings: Finetune) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at {where}: training diverged; lower "
            f"finetune.training.learning_rate (now {settings.learning_rate:g}) or "
            f"finetune.training.max_grad_norm (now {settings.training.max_grad_norm:g})"
        )


def _line(epoch: Epoch, job: Job) -> str:
    name = OBJECTIVES[job.train.task].name
    return (
        f"epoch {epoch.epoch}/{job.settings.training.num_train_epochs}: train loss "
        f"{epoch.train_loss:.3f}, validation loss {epoch.validation_loss:.3f}, {name} "
        f"{epoch.validation_metric:.3f} ({epoch.seconds:.1f} s)"
    )

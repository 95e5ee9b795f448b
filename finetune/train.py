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
from torch.nn.functional import cross_entropy
from transformers import set_seed

from edgeloop.errors import TrainingError
from edgeloop.recipe import Training
from edgeloop.records import Epoch
from finetune.batches import Encoded, in_order, shuffled
from finetune.checkpoint import (
    Weights,
    copy_weights,
    read_checkpoint,
    restore,
    set_weights,
    trainable,
    write_checkpoint,
)

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0

Say = Callable[[str], None]


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


def learning_rate(step: int, steps: int, training: Training) -> float:
    """Linear warm-up from 0 over warmup_ratio of the steps, then linear decay to 0."""
    warmup = math.ceil(steps * training.warmup_ratio)
    if step < warmup:
        return training.learning_rate * (step + 1) / (warmup + 1)
    return training.learning_rate * (steps - step) / max(1, steps - warmup)


def best_epoch(epochs: list[Epoch]) -> Epoch:
    """The epoch of the smallest validation loss, the earliest of equals."""
    return min(epochs, key=lambda epoch: epoch.validation_loss)


def is_finished(epochs: list[Epoch], training: Training) -> bool:
    """All epochs done, or none better for early_stopping_patience epochs."""
    if not epochs:
        return False
    last = epochs[-1].epoch
    waited = last - best_epoch(epochs).epoch
    return last >= training.num_train_epochs or waited >= training.early_stopping_patience


def fit(
    model: torch.nn.Module,
    train: Encoded,
    validation: Encoded,
    training: Training,
    folder: Path,
    say: Say,
) -> list[Epoch]:
    """Train, or go on from the folder's checkpoint; the model ends with the best epoch's weights.

    Raises TrainingError where the loss stops being a number.
    """
    optimizer = _optimizer(model, training)
    epochs: list[Epoch] = []
    best: Weights = {}
    checkpoint = read_checkpoint(folder)
    if checkpoint is not None:
        restore(checkpoint, model, optimizer)
        epochs, best = checkpoint.epochs, checkpoint.best
        say(f"resumed after epoch {epochs[-1].epoch}")
    while not is_finished(epochs, training):
        epoch = _epoch(len(epochs) + 1, model, optimizer, train, validation, training, say)
        epochs.append(epoch)
        if best_epoch(epochs) is epoch:
            best = copy_weights(model)
        write_checkpoint(folder, model, optimizer, epochs, best)
        say(_line(epoch, training))
    set_weights(model, best)
    return epochs


def _optimizer(model: torch.nn.Module, training: Training) -> torch.optim.AdamW:
    """Biases and norms are not decayed."""
    parameters = list(trainable(model).values())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=training.learning_rate)


def _epoch(
    number: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Encoded,
    validation: Encoded,
    training: Training,
    say: Say,
) -> Epoch:
    started = time.monotonic()
    train_loss = _train_once(number, model, optimizer, train, training, say)
    figures = evaluate(model, validation)
    _check_finite(figures.loss, f"validation after epoch {number}", training)
    return Epoch(
        epoch=number,
        train_loss=train_loss,
        validation_loss=figures.loss,
        validation_accuracy=figures.accuracy,
        seconds=time.monotonic() - started,
    )


def _train_once(
    number: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    train: Encoded,
    training: Training,
    say: Say,
) -> float:
    """One pass over the rows; returns the mean loss per row."""
    model.train()
    steps_per_epoch = math.ceil(len(train) / training.per_device_train_batch_size)
    total = 0.0
    said = time.monotonic()
    batches = shuffled(train, training.per_device_train_batch_size, training.seed, number)
    for step, batch in enumerate(batches):
        done = (number - 1) * steps_per_epoch + step
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done, steps_per_epoch * training.num_train_epochs, training)
        optimizer.zero_grad()
        loss = cross_entropy(batch.logits(model), batch.targets)
        _check_finite(loss.item(), f"epoch {number}, step {step + 1}", training)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable(model).values(), training.max_grad_norm)
        optimizer.step()
        total += loss.item() * len(batch.targets)
        if time.monotonic() - said >= PROGRESS_SECONDS:
            say(f"epoch {number}, step {step + 1} of {steps_per_epoch}, loss {loss.item():.3f}")
            said = time.monotonic()
    return total / len(train)


@dataclass(frozen=True)
class Figures:
    """Mean cross-entropy per row, and the share of rows that are answered rightly."""

    loss: float
    accuracy: float


def evaluate(model: torch.nn.Module, rows: Encoded) -> Figures:
    """Loss and accuracy on the rows."""
    model.eval()
    loss, right = 0.0, 0
    with torch.inference_mode():
        for batch in in_order(rows):
            logits = batch.logits(model)
            loss += cross_entropy(logits, batch.targets, reduction="sum").item()
            right += int((logits.argmax(dim=-1) == batch.targets).sum())
    return Figures(loss / len(rows), right / len(rows))


def _check_finite(loss: float, where: str, training: Training) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss} at {where}: training diverged; lower "
            f"finetune.training.learning_rate (now {training.learning_rate:g}) or "
            f"finetune.training.max_grad_norm (now {training.max_grad_norm:g})"
        )


def _line(epoch: Epoch, training: Training) -> str:
    return (
        f"epoch {epoch.epoch}/{training.num_train_epochs}: train loss {epoch.train_loss:.3f}, "
        f"validation loss {epoch.validation_loss:.3f}, accuracy {epoch.validation_accuracy:.3f} "
        f"({epoch.seconds:.1f} s)"
    )

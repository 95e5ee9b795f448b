"""The training loop: AdamW, linear warm-up and decay, validation after every epoch, early stopping,
the best epoch's weights. The same inputs give the same bits, killed and resumed or not.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from transformers import set_seed

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune
from edgeloop.records import Epoch
from finetune.arena import Arena
from finetune.batches import Batch, Encoded, in_order, shuffled
from finetune.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from finetune.compute import Compute, give_back_memory, still_base
from finetune.epochs import best_epoch, is_finished
from finetune.model import TaskModel
from finetune.objectives import OBJECTIVES, blended_loss

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 5.0
FULL = "full"  # the one method that trains the base itself
# A new head beside pretrained weights: at their small rate it would still be learning at the end.
FULL_HEAD_RATE_RATIO = 10.0
SEED_STRIDE = 1_000_003  # a seed and an epoch give a random state of their own

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


class Training:
    """One training under way: epochs that are done, and how far the present one is."""

    def __init__(
        self,
        model: TaskModel,
        rows_of: Callable[[int], Encoded],
        validation: Encoded,
        settings: Finetune,
        say: Say,
    ) -> None:
        """`rows_of`: the training rows of an epoch, counted from 1; always as many."""
        give_back_memory()
        is_full = settings.method == FULL
        if not is_full:
            still_base(model.encoder)
        self._model = model
        self._rows_of = rows_of
        self._validation = validation
        self._settings = settings
        self._say = say
        weight_decay = settings.training.weight_decay
        ratio = FULL_HEAD_RATE_RATIO if is_full else 1.0
        self._arena = Arena(model, settings.learning_rate, weight_decay, ratio)
        self._compute = Compute(model, self._arena, settings)
        self._best = self._arena.data.clone()
        self.epochs: list[Epoch] = []
        self._steps = 0
        self._loss = 0.0
        self._train_seconds = 0.0
        self._random: dict[str, torch.Tensor] = {}

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from there."""
        self.epochs, self._steps = checkpoint.epochs, checkpoint.steps
        self._loss, self._train_seconds = checkpoint.loss, checkpoint.train_seconds
        self._best.copy_(checkpoint.best)
        self._arena.restore(checkpoint.weights, checkpoint.moments)
        self._random = checkpoint.random
        self._say(f"resumed after epoch {len(self.epochs)}, step {self._steps}")

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        checkpoint = Checkpoint(
            epochs=self.epochs,
            steps=self._steps,
            loss=self._loss,
            train_seconds=self._train_seconds,
            weights=self._arena.data,
            best=self._best,
            moments=self._arena.moments(),
            random=self._compute.random_state(),
        )
        write_checkpoint(folder, checkpoint)

    def epoch(self, folder: Path) -> Epoch:
        """Train the rest of the present epoch, and judge it on the validation rows."""
        number, started = len(self.epochs) + 1, time.monotonic()
        before_seconds = self._train_seconds
        rows = self._rows_of(number)
        self._model.train()
        self._begin(number)
        training = self._settings.training
        steps = math.ceil(len(rows) / training.per_device_train_batch_size)
        batches = shuffled(rows, training.per_device_train_batch_size, training.seed, number)
        said = started
        for step, batch in enumerate(islice(batches, self._steps, None), start=self._steps):
            rate = learning_rate(
                (number - 1) * steps + step, steps * training.num_train_epochs, self._settings
            )
            loss = self._step(batch, rate, f"epoch {number}, step {step + 1}")
            self._loss += loss * batch.rows
            self._steps = step + 1
            self._train_seconds = before_seconds + time.monotonic() - started
            if self._steps % training.save_steps == 0 and self._steps < steps:
                self.save(folder)
            if time.monotonic() - said >= PROGRESS_SECONDS:
                self._say(f"epoch {number}, step {self._steps} of {steps}, loss {loss:.3f}")
                said = time.monotonic()
        return self._judge(number, self._loss / len(rows))

    def _begin(self, number: int) -> None:
        """The random state of the epoch; in the middle of one, that of the step to go on from."""
        self._compute.begin_epoch(self._settings.training.seed * SEED_STRIDE + number)
        if self._steps > 0:
            self._compute.set_random_state(self._random)

    def _step(self, batch: Batch, rate: float, where: str) -> float:
        """One update; returns the batch's mean loss."""
        with self._compute.passes(training=True):
            loss = self._objective(batch)
        value = float(loss.item())
        _check_finite(value, where, self._settings)
        loss.backward()
        self._arena.step(rate, self._settings.training.max_grad_norm)
        return value

    def _objective(self, batch: Batch) -> torch.Tensor:
        output = batch.output(self._model)
        weight = self._settings.retention.distillation_weight
        return blended_loss(self._validation.task, output, batch, weight)

    def _judge(self, number: int, train_loss: float) -> Epoch:
        """End the epoch: the next begins at its first step."""
        started = time.monotonic()
        with self._compute.passes(training=False):
            figures = evaluate(self._model, self._validation)
        _check_finite(figures.loss, f"validation after epoch {number}", self._settings)
        epoch = Epoch(
            epoch=number,
            train_loss=train_loss,
            validation_loss=figures.loss,
            validation_metric=figures.metric,
            train_seconds=self._train_seconds,
            seconds=self._train_seconds + time.monotonic() - started,
        )
        self.epochs.append(epoch)
        if best_epoch(self.epochs) is epoch:
            self._best.copy_(self._arena.data)
        self._steps, self._loss, self._train_seconds = 0, 0.0, 0.0
        return epoch

    def finish(self) -> None:
        """Give the model the best epoch's weights."""
        self._arena.data.copy_(self._best)


def fit(
    model: TaskModel,
    rows_of: Callable[[int], Encoded],
    validation: Encoded,
    settings: Finetune,
    folder: Path,
    say: Say,
    on_epoch: OnEpoch | None = None,
) -> list[Epoch]:
    """Train on the rows of each epoch, or go on from the folder's checkpoint; the model ends with
    the best epoch's weights. `on_epoch` hears of each epoch as it ends; what it raises ends the
    training.

    Raises TrainingError where the loss stops being a number.
    """
    training = Training(model, rows_of, validation, settings, say)
    checkpoint = read_checkpoint(folder)
    if checkpoint is not None:
        training.resume(checkpoint)
    while not is_finished(training.epochs, settings.training):
        epoch = training.epoch(folder)
        training.save(folder)
        say(_line(epoch, validation.task, settings))
        if on_epoch is not None:
            on_epoch(epoch)
    training.finish()
    return training.epochs


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


def _line(epoch: Epoch, task: str, settings: Finetune) -> str:
    return (
        f"epoch {epoch.epoch}/{settings.training.num_train_epochs}: train loss "
        f"{epoch.train_loss:.3f}, validation loss {epoch.validation_loss:.3f}, "
        f"{OBJECTIVES[task].name} {epoch.validation_metric:.3f} ({epoch.seconds:.1f} s)"
    )

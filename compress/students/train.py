"""The lesson itself: AdamW with linear warm-up and decay over a fixed number of epochs, in batches
of similar length. The same inputs on as many threads give the same bits."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from compress.modules import Exported
from compress.students.compute import deterministic
from compress.students.layers import encoder_layers, listening
from compress.students.lesson import Lesson
from compress.students.losses import Match, lesson_loss
from compress.students.material import Batch, run
from compress.students.seen import only_seen
from edgeloop.errors import ExportError
from edgeloop.recipe import Distill


@dataclass(frozen=True)
class Course:
    """One student's lesson: which settings of the recipe are its own, and what it is to match."""

    kind: str
    epochs: int
    batch_rows: int
    learning_rate: float
    rate_key: str
    match: Match


def teach(module: Exported, inputs: Sequence[str], lesson: Lesson, course: Course) -> list[float]:
    """Train the student in place, with dropout off; returns each epoch's mean loss.

    Raises ExportError where the loss stops being a number.
    """
    material = lesson.material
    layers = list(encoder_layers(module)) if course.match.layers else []
    losses: list[float] = []
    module.eval()
    with deterministic(lesson.settings.seed), only_seen(module, material.token_ids()):
        module.requires_grad_(True)
        steps = math.ceil(len(material) / course.batch_rows)
        descent = Descent(module, course, lesson.settings, steps * course.epochs)
        for epoch in range(1, course.epochs + 1):
            started, total = time.monotonic(), 0.0
            for batch in material.shuffled(course.batch_rows, lesson.settings.seed, epoch):
                loss = _loss(module, inputs, layers, batch, lesson, course)
                total += descent.step(loss, epoch) * len(batch.embedding)
            losses.append(total / len(material))
            rate = len(material) / (time.monotonic() - started)
            lesson.progress(
                f"{course.kind}: epoch {epoch}/{course.epochs}, loss {losses[-1]:.4f}, "
                f"{rate:.0f} rows/s"
            )
    module.requires_grad_(False)
    return losses


def _loss(
    module: Exported,
    inputs: Sequence[str],
    layers: Sequence[torch.nn.Module],
    batch: Batch,
    lesson: Lesson,
    course: Course,
) -> torch.Tensor:
    with listening(layers, batch.feed["attention_mask"]) as states:
        outputs = run(module, inputs, batch.feed)
    return lesson_loss(lesson.task, outputs, states, batch, course.match, lesson.settings)


class Descent:
    """AdamW over a module's parameters, `steps` long; matrices are decayed, vectors are not."""

    def __init__(
        self, module: torch.nn.Module, course: Course, settings: Distill, steps: int
    ) -> None:
        self._parameters = list(module.parameters())
        self._course = course
        self._settings = settings
        self._steps = steps
        self._done = 0
        groups = [
            {"params": [p for p in self._parameters if (p.ndim >= 2) == is_matrix], **decay}
            for is_matrix, decay in (
                (True, {"weight_decay": settings.weight_decay}),
                (False, {"weight_decay": 0.0}),
            )
        ]
        self._optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=course.learning_rate, fused=True
        )

    def rate(self, step: int) -> float:
        """Linear warm-up from 0 over warmup_ratio of the steps, then linear decay to 0."""
        warmup = math.ceil(self._steps * self._settings.warmup_ratio)
        if step < warmup:
            return self._course.learning_rate * (step + 1) / (warmup + 1)
        left = (self._steps - step) / max(1, self._steps - warmup)
        return self._course.learning_rate * left

    def step(self, loss: torch.Tensor, epoch: int) -> float:
        """One update; returns the loss."""
        value = float(loss.item())
        if not math.isfinite(value):
            raise ExportError(
                f"{self._course.kind}: the loss is {value} in epoch {epoch}, step "
                f"{self._done + 1}: training diverged; lower {self._course.rate_key} (now "
                f"{self._course.learning_rate:g}) or compress.students.max_grad_norm (now "
                f"{self._settings.max_grad_norm:g})"
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate(self._done)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._done += 1
        return value

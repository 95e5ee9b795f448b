"""A teacher without its least important heads and FFN units, recovered by a short lesson."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from compress.merged import Merged
from compress.modules import Exported
from compress.students.importance import Importance, importance
from compress.students.lesson import Lesson
from compress.students.losses import Match
from compress.students.parts import keep_heads, parts_of
from compress.students.train import Course, teach

KIND = "pruned"
# Kernels work on blocks of this many columns; a width between two of them costs as the wider.
UNIT_BLOCK = 16


def pruned(lesson: Lesson) -> Merged:
    """The share `pruned_ratio` of every layer's heads and FFN units. Raises ExportError for an
    architecture whose heads and units are not known."""
    settings = lesson.settings
    found = importance(lesson, KIND)
    module = copy.deepcopy(lesson.teacher.module)
    cut(module, KIND, found, settings.pruned_ratio)
    student = replace(lesson.teacher, module=module)
    course = Course(
        kind=KIND,
        epochs=settings.pruned_epochs,
        batch_rows=settings.batch_rows,
        learning_rate=settings.learning_rate,
        rate_key="compress.distill.learning_rate",
        match=Match(tuple(range(len(found.heads)))),
    )
    teach(module, student.inputs, lesson, course)
    return student


def cut(module: Exported, kind: str, found: Importance, ratio: float) -> None:
    """Keep this share of each layer's heads and units, at least one, the most important ones."""
    parts = parts_of(module, kind)
    heads = found.heads
    if parts[0].family.bias:  # what layers share for a head, they keep or lose together
        heads = heads.sum(dim=0, keepdim=True).expand(len(parts), -1)
    count = max(1, round(ratio * heads.shape[1]))
    keep_heads(module, kind, [most(row, count) for row in heads])
    width = found.units.shape[1]
    units = max(1, round(ratio * width))
    if units >= UNIT_BLOCK:
        units = min(width, -(-units // UNIT_BLOCK) * UNIT_BLOCK)
    for own, row in zip(parts, found.units, strict=True):
        own.keep_units(most(row, units))


def most(importances: torch.Tensor, count: int) -> Sequence[int]:
    """The `count` most important, in the order that they stand in."""
    chosen: list[int] = importances.topk(count).indices.sort().values.tolist()
    return chosen

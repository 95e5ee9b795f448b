"""The retention suite: the rows that a new model is asked about to see what it forgot, and the rows
that may be replayed to keep it from that. No row is both, and none of either is tested with.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle, GoldenRow
from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span, TextInput
from edgeloop.runtime import RowOutput
from edgeloop.tasks import OUTSIDE, TASKS, is_right
from finetune.data import Problems, Wanted, read_files
from finetune.dataset import normalised
from finetune.retention.previous import comparable, training_rows
from finetune.split import digest_ratio

# The share of retention.files that is measured where the rest may be replayed.
MEASURED_RATIO = 0.5
# "start:end:label" per entity, divided by "|" (edgeloop.tasks.Answer.label).
SPANS = re.compile(r"(\d+):(\d+):(.*?)(?=\|\d+:\d+:|$)", re.DOTALL)


@dataclass(frozen=True)
class Suite:
    """`golden` of the rows are the previous bundle's; `left_out` were trained on."""

    rows: tuple[Row, ...]
    golden: int
    left_out: int


def has_suite(recipe: Recipe, previous: Bundle | None) -> bool:
    """Whether there is anything to measure retention on."""
    return bool(recipe.finetune.retention.files or golden_rows(recipe, previous))


def measured_suite(recipe: Recipe, previous: Bundle | None, trained: Iterable[Row]) -> Suite:
    """Golden rows and the measured part of retention.files, each text once, without those that are
    among `trained`, the rows that the new model was trained and chosen on."""
    _, measured = divided_files(recipe)
    every: dict[str, tuple[Row, bool]] = {}
    for row in golden_rows(recipe, previous):
        every.setdefault(content(row), (row, True))
    for row in measured:
        every.setdefault(content(row), (row, False))
    known = {content(row) for row in trained}
    kept = [(row, is_golden) for key, (row, is_golden) in every.items() if key not in known]
    return Suite(
        rows=tuple(row for row, _ in kept),
        golden=sum(is_golden for _, is_golden in kept),
        left_out=len(every) - len(kept),
    )


def replayable_rows(recipe: Recipe, previous: Bundle | None) -> list[Row]:
    """What may be trained on again: the previous model's training rows, where its run is still
    there, and the part of retention.files that is not measured."""
    known = comparable(recipe, previous)
    replayed, _ = divided_files(recipe)
    return [*(training_rows(known) if known is not None else ()), *replayed]


def divided_files(recipe: Recipe) -> tuple[list[Row], list[Row]]:
    """(may be replayed, measured) rows of retention.files: all are measured unless the recipe
    replays; then the digest of its text decides for each row.

    Raises DatasetError with all problems of the files.
    """
    rows = read_retention_files(recipe)
    if recipe.finetune.retention.replay_ratio == 0.0:
        return [], rows
    is_measured = [digest_ratio(content(row)) < MEASURED_RATIO for row in rows]
    return (
        [row for row, measured in zip(rows, is_measured, strict=True) if not measured],
        [row for row, measured in zip(rows, is_measured, strict=True) if measured],
    )


def read_retention_files(recipe: Recipe) -> list[Row]:
    """The rows of retention.files. Raises DatasetError with all problems."""
    problems = Problems()
    wanted = Wanted.of(recipe.data, recipe.task)
    rows = read_files(recipe.finetune.retention.files, wanted, problems)
    problems.raise_if_any()
    return rows


def golden_rows(recipe: Recipe, previous: Bundle | None) -> list[Row]:
    """The golden rows as labelled rows. Those of text-embedding hold no text that belongs to them,
    so that nothing can be right or wrong about them: none."""
    known = comparable(recipe, previous)
    if known is None or TASKS[recipe.task].width(known.manifest.labels) == 0:
        return []
    return [golden_row(row, recipe.task) for row in known.golden()]


def golden_row(row: GoldenRow, task: str) -> Row:
    """A golden row's `label` is one word; this is what it stands for."""
    text_pair = getattr(row, "text_pair", None)
    if task == "token-classification":
        spans = tuple(Span(int(s), int(e), label) for s, e, label in SPANS.findall(row.label))
        return Row(row.id, row.text, spans=spans, text_pair=text_pair)
    labels: tuple[str, ...] = (row.label,)
    if task == "multi-label-classification":
        labels = tuple(label for label in row.label.split("|") if label)
    return Row(row.id, row.text, labels, text_pair)


def content(row: Row) -> str:
    """What makes two rows the same one: their texts without case and white space."""
    return "\0".join(normalised(text) for text in (row.text, row.text_pair or ""))


def classes_of(row: Row) -> tuple[str, ...]:
    """The classes that a row counts for: its labels or its entities' types, each once; OUTSIDE
    where it has none."""
    found = {*row.labels, *(span.label for span in row.spans)}
    return tuple(sorted(found)) or (OUTSIDE,)


def asked(task: str, rows: Sequence[Row]) -> list[TextInput]:
    """All that a model must read to be judged on the rows; for text-embedding their texts, and
    after them the texts that belong to them."""
    if TASKS[task].width(("any",)):
        return [row.input for row in rows]
    return [*(row.text for row in rows), *(row.text_pair or "" for row in rows)]


def right(
    task: str, outputs: Sequence[RowOutput], rows: Sequence[Row], labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Which rows are answered as a person did, (rows,), from the outputs for `asked(task, rows)`. A
    label that the model does not know is never among its answers: it counts as wrong."""
    semantics = TASKS[task]
    if semantics.width(("any",)) == 0:
        return _nearest_is_own(outputs, rows)
    return np.array(
        [
            is_right(semantics.answer(output, labels), semantics.truth(row))
            for output, row in zip(outputs, rows, strict=True)
        ],
        dtype=bool,
    )


def _nearest_is_own(outputs: Sequence[RowOutput], rows: Sequence[Row]) -> NDArray[np.bool_]:
    """Is each row's own text nearer to it than every different one of all rows?"""
    vectors = np.stack([output.embedding for output in outputs])
    cosines = vectors[: len(rows)] @ vectors[len(rows) :].T  # (rows, rows)
    own = cosines.diagonal().copy()
    texts = np.array([row.text_pair or "" for row in rows])
    cosines[texts[:, None] == texts[None]] = -np.inf
    nearest: NDArray[np.bool_] = own > cosines.max(axis=1)
    return nearest

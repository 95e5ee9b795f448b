"""The retention suite: the rows that a new model is asked about to see what it forgot, and the rows
that may be replayed to keep it from that. No row is both, and none of either is tested with.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeloop.bundle import Bundle, GoldenRow
from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span
from edgeloop.tasks import OUTSIDE, TASKS
from finetune.data import Problems, Wanted, read_files
from finetune.dataset import files_of, normalised, taught
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


def retention_files(recipe: Recipe) -> list[Path]:
    """Every file behind retention.files; a folder is all its files."""
    return [file for path in recipe.finetune.retention.files for file in files_of(path)]


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
    if task == "token-classification":
        spans = tuple(Span(int(s), int(e), label) for s, e, label in SPANS.findall(row.label))
        return Row(row.id, row.text, spans=spans, text_pair=row.text_pair)
    return Row(row.id, row.text, TASKS[task].read_label(row.label) or (), row.text_pair)


def content(row: Row) -> str:
    """What makes two rows the same one: their texts without case and white space."""
    return "\0".join(normalised(text) for text in (row.text, row.text_pair or ""))


def classes_of(row: Row) -> tuple[str, ...]:
    """The classes that a row counts for: its labels or its entities' types, each once; OUTSIDE
    where it has none."""
    return tuple(sorted(set(taught(row)))) or (OUTSIDE,)

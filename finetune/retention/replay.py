"""Replay: some of what the model knew before is trained on again, beside the new rows."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgeloop.bundle import Bundle
from edgeloop.errors import RecipeError
from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from edgeloop.rundir import digest_file
from finetune.dataset import Rows
from finetune.retention.previous import comparable
from finetune.retention.suite import (
    classes_of,
    content,
    measured_suite,
    replayable_rows,
    retention_files,
)


def replay_inputs(recipe: Recipe, previous: Bundle | None) -> dict[str, Any]:
    """What a dataset depends on where rows are replayed into it; nothing where none are."""
    retention, known = recipe.finetune.retention, comparable(recipe, previous)
    if retention.replay_ratio == 0.0:
        return {}
    return {
        "replay_ratio": retention.replay_ratio,
        "previous": None if known is None else known.digest,
        "retention_files": [digest_file(path) for path in retention_files(recipe)],
    }


def add_replay(rows: Rows, recipe: Recipe, previous: Bundle | None) -> Rows:
    """The splits with replayed rows at the end of train, so many that they are `replay_ratio` of
    it. Only the training rows change: what is measured or tested with is never replayed.

    Raises RecipeError where there is nothing to replay.
    """
    ratio = recipe.finetune.retention.replay_ratio
    sources = replayable_rows(recipe, previous)
    if not sources:
        raise RecipeError(
            f"finetune.retention.replay_ratio is {ratio:g}: there is nothing to replay, the run "
            "that trained the deployed model is gone and finetune.retention.files has no row for "
            "it; name files, or set it to 0"
        )
    train = rows.splits["train"]
    pool = _pool(sources, rows, measured_suite(recipe, previous, ()).rows)
    wanted = replay_count(len(train), ratio)
    chosen = draw(pool, wanted)
    splits = {**rows.splits, "train": [*train, *_with_free_ids(chosen, rows)]}
    said = f"replay: {len(chosen)} of {wanted} rows, no more of {len(sources)} are new to this run"
    warnings = (*rows.warnings, said) if len(chosen) < wanted else rows.warnings
    return replace(rows, splits=splits, warnings=warnings)


def replay_count(new: int, ratio: float) -> int:
    """How many replayed rows beside `new` others are `ratio` of the whole, at least one."""
    return max(1, round(new * ratio / (1.0 - ratio)))


def draw(pool: Sequence[Row], count: int) -> list[Row]:
    """`count` rows, or all of fewer: one of each class in turn, within a class in the order of the
    rows' digests, so that a rare class is not forgotten for a common one."""
    by_class: dict[tuple[str, ...], list[Row]] = {}
    for row in sorted(pool, key=_digest):
        by_class.setdefault(classes_of(row), []).append(row)
    turns = [
        (turn, label, row) for label, rows in by_class.items() for turn, row in enumerate(rows)
    ]
    turns.sort(key=lambda entry: entry[:2])
    return [row for _, _, row in turns[:count]]


def _digest(row: Row) -> str:
    return hashlib.sha256(content(row).encode()).hexdigest()


def _pool(sources: Sequence[Row], rows: Rows, measured: Sequence[Row]) -> list[Row]:
    """Each text once, none that a split has already and none that is measured."""
    taken = {content(row) for split in rows.splits.values() for row in split}
    taken |= {content(row) for row in measured}
    pool = {content(row): row for row in reversed(sources)}
    return [row for key, row in pool.items() if key not in taken]


def _with_free_ids(chosen: Sequence[Row], rows: Rows) -> list[Row]:
    """Two runs may number their rows alike."""
    taken = {row.id for split in rows.splits.values() for row in split}
    named = []
    for row in chosen:
        row_id = row.id
        while row_id in taken:
            row_id = f"replayed-{row_id}"
        taken.add(row_id)
        named.append(replace(row, id=row_id, slices=()))
    return named

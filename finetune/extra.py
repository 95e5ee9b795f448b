"""Adds labelled rows from production to the splits at a retraining: most are trained on, some stop
the training early, and some stay unseen, to compare champion and challenger on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from edgeloop.ledger import LabelledRow
from finetune.data import Row
from finetune.dataset import Rows, normalised
from finetune.split import by_rank

SHARES = {"train": 0.6, "validation": 0.1, "fresh": 0.3}
MIN_ROWS_PER_LABEL = 4


def add_extra(rows: Rows, extra: Sequence[LabelledRow]) -> Rows:
    """The splits with `extra` in them, and a further split `fresh` that is never trained on; fresh
    rows join the reference, so that drift is measured against today's traffic."""
    kept, warnings = _without_known_texts(rows, extra)
    kept, rare = _without_rare_labels(kept)
    chosen = by_rank(_with_free_ids(rows, kept), SHARES, _rank)
    splits = {
        "train": rows.splits["train"] + chosen["train"],
        "validation": rows.splits["validation"] + chosen["validation"],
        "reference": rows.splits["reference"] + chosen["fresh"],
        "test": rows.splits["test"],
        "fresh": chosen["fresh"],
    }
    return replace(rows, splits=splits, warnings=(*rows.warnings, *warnings, *rare))


def _rank(row: Row) -> str:
    return hashlib.sha256((row.id + row.text).encode()).hexdigest()


def _without_known_texts(rows: Rows, extra: Sequence[LabelledRow]) -> tuple[list[Row], list[str]]:
    """A text that a split has, or that arrived twice, would be trained on and tested with."""
    seen = {
        normalised(row.text): name
        for name in ("train", "validation", "reference", "test")
        for row in rows.splits[name]
    }
    kept, warnings = [], []
    for row in extra:
        text = normalised(row.text)
        if text in seen:
            warnings.append(f"labelled row {row.id!r} left out: its text is in {seen[text]} too")
        else:
            kept.append(Row(row.id, row.text, row.label, where=f"labelled row {row.id!r}"))
            seen[text] = "the labelled rows"
    return kept, warnings


def _without_rare_labels(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.label] = counts.get(row.label, 0) + 1
    warnings = [
        f"label {label!r} left out of the labelled rows: {count} rows, at least "
        f"{MIN_ROWS_PER_LABEL} are needed"
        for label, count in sorted(counts.items())
        if count < MIN_ROWS_PER_LABEL
    ]
    return [row for row in rows if counts[row.label] >= MIN_ROWS_PER_LABEL], warnings


def _with_free_ids(rows: Rows, extra: Sequence[Row]) -> list[Row]:
    """Production counts its requests as it likes: an id that a split has gets a prefix."""
    taken = {row.id for split in rows.splits.values() for row in split}
    return [replace(row, id=f"labelled-{row.id}") if row.id in taken else row for row in extra]

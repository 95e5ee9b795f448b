"""Adds labelled rows from production to the splits at a retraining: most are trained on, some stop
the training early, and some stay unseen, to compare champion and challenger on.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from edgeloop.ledger import LabelledRow
from edgeloop.recipe import TaskName
from edgeloop.rows import Row
from finetune.dataset import Rows, normalised
from finetune.labelled import check_carried, from_labelled
from finetune.split import digest_ratio

# Upper ends of the parts in [0, 1): 60 % train, 10 % validation, 30 % fresh.
PARTS = (("train", 0.6), ("validation", 0.7), ("fresh", 1.0))
MIN_ROWS_PER_LABEL = 4


def add_extra(rows: Rows, extra: Sequence[LabelledRow], task: TaskName) -> Rows:
    """The splits with `extra` in them, and a further split `fresh` that is never trained on; fresh
    rows join the reference, so that drift is measured against today's traffic.

    A row's part depends on its own id alone: what one round keeps unseen, no later round trains on.

    Raises DatasetError where a labelled row cannot say what the task's rows say.
    """
    check_carried(task, any(row.text_pair for split in rows.splits.values() for row in split))
    kept, warnings = _without_known_texts(rows, [from_labelled(row, task) for row in extra])
    kept, rare = _without_rare_labels(kept)
    kept, untrained = _without_untrained_labels(rows, kept)
    chosen = _parts(rows, kept)
    splits = {
        "train": rows.splits["train"] + chosen["train"],
        "validation": rows.splits["validation"] + chosen["validation"],
        "reference": _interleaved(rows.splits["reference"] + chosen["fresh"]),
        "test": rows.splits["test"],
        "fresh": chosen["fresh"],
    }
    return replace(rows, splits=splits, warnings=(*rows.warnings, *warnings, *rare, *untrained))


def _part(row: Row) -> str:
    ratio = digest_ratio(row.id)
    return next(name for name, end in PARTS if ratio < end)


def _parts(rows: Rows, extra: Sequence[Row]) -> dict[str, list[Row]]:
    """The part is that of the id in production: which ids are taken must not move a row."""
    chosen: dict[str, list[Row]] = {name: [] for name, _ in PARTS}
    for row, named in zip(extra, _with_free_ids(rows, extra), strict=True):
        chosen[_part(row)].append(named)
    return chosen


def _interleaved(rows: Sequence[Row]) -> list[Row]:
    """In the order of the ids' digests: labels arrive in blocks of one class, and the drift alarm
    is armed only where neighbouring rows are independent."""
    return sorted(rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())


def _without_known_texts(rows: Rows, extra: Sequence[Row]) -> tuple[list[Row], list[str]]:
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
            kept.append(row)
            seen[text] = "the labelled rows"
    return kept, warnings


def _without_rare_labels(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    counts = Counter(label for row in rows for label in row.labels)
    rare = {label for label, count in counts.items() if count < MIN_ROWS_PER_LABEL}
    warnings = [
        f"label {label!r} left out of the labelled rows: {counts[label]} rows, at least "
        f"{MIN_ROWS_PER_LABEL} are needed"
        for label in sorted(rare)
    ]
    return [row for row in rows if rare.isdisjoint(row.labels)], warnings


def _without_untrained_labels(rows: Rows, extra: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """A label that no train row has cannot be learned, so it cannot be compared on either."""
    trained = {label for row in rows.splits["train"] for label in row.labels}
    trained |= {label for row in extra if _part(row) == "train" for label in row.labels}
    counts = Counter(label for row in extra for label in row.labels if label not in trained)
    warnings = [
        f"label {label!r} left out of the labelled rows: none of its {count} rows falls to train; "
        "label more rows with it"
        for label, count in sorted(counts.items())
    ]
    return [row for row in extra if trained.issuperset(row.labels)], warnings


def _with_free_ids(rows: Rows, extra: Sequence[Row]) -> list[Row]:
    """Production counts its requests as it likes: an id that a split has gets a prefix."""
    taken = {row.id for split in rows.splits.values() for row in split}
    return [replace(row, id=f"labelled-{row.id}") if row.id in taken else row for row in extra]

"""How a candidate answers beside the merged model on the same labelled rows: calibration,
agreement, flips, and every class and slice by itself, since an average hides one that is lost.
"""

from collections.abc import Sequence

import numpy as np

from edgeloop import calibration
from edgeloop.figures import class_counts, class_figures
from edgeloop.records_evaluation import ClassFigures
from edgeloop.records_measured import ClassQuality, Quality, SliceQuality
from edgeloop.rows import Row
from edgeloop.runtime import RowOutput
from edgeloop.slices import FEWEST_ROWS, groups
from edgeloop.tasks import TASKS, Answer, is_right

Outputs = Sequence[RowOutput]


def assess(
    task: str, labels: Sequence[str], rows: Sequence[Row], merged: Outputs, candidate: Outputs
) -> Quality:
    """Both outputs answer `TASKS[task].inputs(rows)`; `labels` are those of the training rows.

    Raises ValueError where there is no row, or outputs and rows do not pair.
    """
    if not rows:
        raise ValueError("a candidate cannot be compared on 0 rows")
    right, merged_right = (
        TASKS[task].right(outputs, rows, labels) for outputs in (candidate, merged)
    )
    return Quality(
        rows=len(rows),
        ece=_ece(task, rows, candidate, labels),
        merged_ece=_ece(task, rows, merged, labels),
        agreement_ratio=_agreement(task, labels, merged, candidate),
        flip_ratio=float(np.mean(right != merged_right)),
        classes=_classes(task, labels, rows, merged, candidate),
        slices=tuple(
            SliceQuality(
                name=f"{column}: {value}",
                rows=int(mask.sum()),
                accuracy=float(right[mask].mean()),
                merged_accuracy=float(merged_right[mask].mean()),
            )
            for column, value, mask in groups(rows)
            if mask.sum() >= FEWEST_ROWS
        ),
    )


def _ece(task: str, rows: Sequence[Row], outputs: Outputs, labels: Sequence[str]) -> float | None:
    found = calibration.of_task(task, rows, outputs, labels)
    return None if found is None else found.ece


def _agreement(
    task: str, labels: Sequence[str], merged: Outputs, candidate: Outputs
) -> float | None:
    if task == "text-embedding":
        return None
    pairs = zip(_answers(task, labels, merged), _answers(task, labels, candidate), strict=True)
    return float(np.mean([is_right(one, other) for one, other in pairs]))


def _answers(task: str, labels: Sequence[str], outputs: Outputs) -> list[Answer]:
    return [TASKS[task].answer(output, labels) for output in outputs]


def _classes(
    task: str, labels: Sequence[str], rows: Sequence[Row], merged: Outputs, candidate: Outputs
) -> tuple[ClassQuality, ...]:
    if task == "text-embedding":
        return ()
    names = sorted(set(labels) | {name for row in rows for name in _named(row)})
    before, after = (
        _figures(task, labels, rows, outputs, names) for outputs in (merged, candidate)
    )
    return tuple(
        ClassQuality(
            name=new.name,
            support=new.support,
            recall=new.recall,
            f1=new.f1,
            merged_recall=old.recall,
            merged_f1=old.f1,
        )
        for old, new in zip(before, after, strict=True)
    )


def _figures(
    task: str, labels: Sequence[str], rows: Sequence[Row], outputs: Outputs, names: Sequence[str]
) -> tuple[ClassFigures, ...]:
    pairs = list(zip(rows, _answers(task, labels, outputs), strict=True))
    if task == "token-classification":
        spans = [(row.spans, answer.spans) for row, answer in pairs]
        counts = class_counts(spans, names, lambda span: span.label)
    else:
        counts = class_counts([(row.labels, answer.labels) for row, answer in pairs], names, str)
    return class_figures(names, counts.sum(axis=0))


def _named(row: Row) -> set[str]:
    return {*row.labels, *(span.label for span in row.spans)}

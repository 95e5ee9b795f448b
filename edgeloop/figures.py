"""Precision, recall and F1 of labels and of entity spans, from counts of hits. One definition for
the evaluation of a fine-tuned model and for the certificate of a compressed one.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeloop.records_evaluation import ClassFigures

Floats = NDArray[np.float64]
Found = TypeVar("Found")


def class_counts(
    pairs: Sequence[tuple[Collection[Found], Collection[Found]]],
    names: Sequence[str],
    class_of: Callable[[Found], str],
) -> Floats:
    """True positives, false positives, false negatives of (truth, answer) pairs of labels or spans:
    (pairs, classes, 3). Raises KeyError for a class that is not among the names."""
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(pairs), len(names), 3))
    for row, (truth, answer) in enumerate((set(t), set(a)) for t, a in pairs):
        for column, found in enumerate((truth & answer, answer - truth, truth - answer)):
            for one in found:
                counts[row, place[class_of(one)], column] += 1.0
    return counts


def class_figures(names: Sequence[str], totals: Floats) -> tuple[ClassFigures, ...]:
    """Precision, recall and F1 per class from (classes, 3) counts; 0 where they do not exist."""
    hits, false, missed = totals.T
    figures = np.column_stack([ratio(hits, hits + false), ratio(hits, hits + missed), f1(totals)])
    return tuple(
        ClassFigures(
            name=name,
            support=int(row[0] + row[2]),
            precision=float(values[0]),
            recall=float(values[1]),
            f1=float(values[2]),
        )
        for name, row, values in zip(names, totals, figures, strict=True)
    )


def f1(sums: Floats) -> Floats:
    """F1 from (..., 3) true positives, false positives, false negatives; 0 where there are none."""
    hits, false, missed = np.moveaxis(sums, -1, 0)
    return ratio(2.0 * hits, 2.0 * hits + false + missed)


def macro_f1(sums: Floats) -> Floats:
    """The mean F1 of the classes that occur in truth or in answers, from (..., classes * 3)."""
    classes = sums.reshape(*sums.shape[:-1], -1, 3)
    occurs = classes.sum(axis=-1) > 0
    return ratio((f1(classes) * occurs).sum(axis=-1), occurs.sum(axis=-1).astype(np.float64))


def ratio(part: Floats, whole: Floats) -> Floats:
    """part / whole, 0 where the whole is 0 (as scikit-learn and seqeval have it)."""
    result: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return result

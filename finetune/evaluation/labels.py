"""Figures of one-label and many-label answers, from the sets of labels of each row."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgeloop.records_evaluation import ClassFigures, Confusion
from finetune.evaluation.judged import Judged
from finetune.evaluation.measure import Floats, Measure, f1, macro_f1, mean, ratio

Labels = tuple[str, ...]


def judge_labels(truths: Sequence[Labels], answers: Sequence[Labels], whole: str) -> Judged:
    """`whole` names the figure that counts rows answered wholly right (accuracy, exact_match).

    Macro F1 is over the classes that occur in truth or in answers, as in scikit-learn.
    """
    pairs: dict[tuple[Labels, Labels], int] = {}
    sorted_pairs = zip(map(_sorted, truths), map(_sorted, answers), strict=True)
    kind = np.array([pairs.setdefault(p, len(pairs)) for p in sorted_pairs], dtype=np.int64)
    names = sorted({label for pair in pairs for labels in pair for label in labels})
    kinds = _counts(list(pairs), names)  # (kinds, classes, 3)
    right = np.array([truth == answer for truth, answer in pairs], dtype=bool)[kind]
    totals = np.bincount(kind, minlength=len(pairs)) @ kinds.reshape(len(pairs), -1)
    return Judged(
        right=right,
        figures={
            whole: mean(right),
            "macro_f1": Measure(kinds.reshape(len(pairs), -1), kind, macro_f1),
            "micro_f1": Measure(kinds.sum(axis=1), kind, f1),
        },
        classes=class_figures(names, totals.reshape(-1, 3)),
    )


def _sorted(labels: Labels) -> Labels:
    return tuple(sorted(set(labels)))


def _counts(pairs: Sequence[tuple[Labels, Labels]], names: Sequence[str]) -> Floats:
    """True positives, false positives, false negatives: (pairs, classes, 3)."""
    place = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(pairs), len(names), 3))
    for row, (truth, answer) in enumerate(pairs):
        for label in {*truth, *answer}:
            column = 0 if label in truth and label in answer else 1 if label in answer else 2
            counts[row, place[label], column] = 1.0
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


def confusion(truths: Sequence[Labels], answers: Sequence[Labels]) -> tuple[Confusion, ...]:
    """Which class was taken for which, the most frequent first; for one label per row."""
    cells = Counter(
        (truth[0], answer[0])
        for truth, answer in zip(truths, answers, strict=True)
        if truth != answer
    )
    ordered = sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))
    return tuple(Confusion(truth=t, answer=a, rows=rows) for (t, a), rows in ordered)

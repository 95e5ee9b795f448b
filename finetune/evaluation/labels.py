"""Figures of one-label and many-label answers, from the sets of labels of each row."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgeloop.figures import class_counts, class_figures, f1, macro_f1
from edgeloop.records_evaluation import Confusion
from finetune.evaluation.judged import Judged
from finetune.evaluation.measure import Measure, mean

Labels = tuple[str, ...]


def judge_labels(truths: Sequence[Labels], answers: Sequence[Labels], whole: str) -> Judged:
    """`whole` names the figure that counts rows answered wholly right (accuracy, exact_match).

    Macro F1 is over the classes that occur in truth or in answers, as in scikit-learn.
    """
    pairs: dict[tuple[Labels, Labels], int] = {}
    sorted_pairs = zip(map(_sorted, truths), map(_sorted, answers), strict=True)
    kind = np.array([pairs.setdefault(p, len(pairs)) for p in sorted_pairs], dtype=np.int64)
    names = sorted({label for pair in pairs for labels in pair for label in labels})
    kinds = class_counts(list(pairs), names, str)  # (kinds, classes, 3)
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


def confusion(truths: Sequence[Labels], answers: Sequence[Labels]) -> tuple[Confusion, ...]:
    """Which class was taken for which, the most frequent first; for one label per row."""
    cells = Counter(
        (truth[0], answer[0])
        for truth, answer in zip(truths, answers, strict=True)
        if truth != answer
    )
    ordered = sorted(cells.items(), key=lambda cell: (-cell[1], cell[0]))
    return tuple(Confusion(truth=t, answer=a, rows=rows) for (t, a), rows in ordered)

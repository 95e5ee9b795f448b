"""Figures of entity spans, by the rules of conlleval and seqeval: a span counts where its type and
both of its ends are exactly right.
"""

from collections.abc import Collection, Sequence

import numpy as np

from edgeloop.figures import Floats, class_counts, class_figures, f1, ratio
from edgeloop.rows import Span
from finetune.evaluation.judged import Judged
from finetune.evaluation.measure import Measure


def judge_spans(truths: Sequence[Collection[Span]], answers: Sequence[Collection[Span]]) -> Judged:
    """`span_f1` with its precision and recall over all types, and `boundary_f1`, which asks for the
    ends alone."""
    pairs = [(set(t), set(a)) for t, a in zip(truths, answers, strict=True)]
    names = sorted({span.label for pair in pairs for spans in pair for span in spans})
    counts = class_counts(pairs, names, lambda span: span.label)
    exact = counts.sum(axis=1)
    return Judged(
        right=np.array([truth == answer for truth, answer in pairs], dtype=bool),
        figures={
            "span_f1": Measure.of_rows(exact, f1),
            "span_precision": Measure.of_rows(exact, _precision),
            "span_recall": Measure.of_rows(exact, _recall),
            "boundary_f1": Measure.of_rows(_boundaries(pairs), f1),
        },
        classes=class_figures(names, counts.sum(axis=0)),
    )


def _boundaries(pairs: Sequence[tuple[set[Span], set[Span]]]) -> Floats:
    parts = np.zeros((len(pairs), 3))
    for row, (truth, answer) in enumerate(pairs):
        there, said = ({(s.start, s.end) for s in spans} for spans in (truth, answer))
        parts[row] = len(there & said), len(said - there), len(there - said)
    return parts


def _precision(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def _recall(sums: Floats) -> Floats:
    return ratio(sums[..., 0], sums[..., 0] + sums[..., 2])

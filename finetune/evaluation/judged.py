"""What every task's answers come to: which rows are right as a whole, and the figures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.records_evaluation import ClassFigures
from finetune.evaluation.measure import Measure

# The figure that a task is judged by, and its name for a reader.
HEADLINE: dict[str, tuple[str, str]] = {
    "text-classification": ("accuracy", "accuracy"),
    "multi-label-classification": ("micro_f1", "micro F1"),
    "token-classification": ("span_f1", "F1 of exact spans"),
    "text-embedding": ("ndcg_at_10", "nDCG@10"),
}


@dataclass(frozen=True)
class Judged:
    """`right` (rows,): answered wholly right; every figure is over the same rows."""

    right: NDArray[np.bool_]
    figures: dict[str, Measure]
    classes: tuple[ClassFigures, ...] = ()

"""Is the model right as often as it says? Expected calibration error over decisions, in bins of
equal mass (Nixon et al. 2019, "Measuring Calibration in Deep Learning"): bins of equal width leave
most of them empty for a model that is sure. 15 bins, as Guo et al. 2017 use.

The error is biased upwards in small samples: with a few hundred decisions a perfect model shows
some points of it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeloop.figures import Floats
from edgeloop.records_evaluation import Calibration, ReliabilityPoint
from edgeloop.rows import Row
from edgeloop.runtime import RowOutput
from edgeloop.tasks import MULTI_LABEL_THRESHOLD, TASKS, Answer, sigmoid

BINS = 15


def calibrate(confidence: Floats, right: NDArray[np.bool_]) -> Calibration | None:
    """Of decisions: how sure the model was, in [0, 1], and whether it was right; both (decisions,).
    None without decisions; fewer bins where there are fewer decisions."""
    if not len(confidence):
        return None
    order = np.argsort(confidence, kind="stable")
    points, gaps = [], 0.0
    for bin_ in np.array_split(order, min(BINS, len(order))):
        sure, share = float(confidence[bin_].mean()), float(right[bin_].mean())
        points.append(ReliabilityPoint(confidence=sure, accuracy=share, decisions=len(bin_)))
        gaps += len(bin_) * abs(sure - share)
    return Calibration(ece=gaps / len(order), points=tuple(points))


def of_answers(answers: Sequence[Answer], right: NDArray[np.bool_]) -> Calibration | None:
    """One decision per row: its score against whether the row is right."""
    return calibrate(np.array([answer.score for answer in answers]), right)


def of_spans(rows: Sequence[Row], answers: Sequence[Answer]) -> Calibration | None:
    """One decision per span that the model found."""
    pairs = [
        (score, span in row.spans)
        for row, answer in zip(rows, answers, strict=True)
        for span, score in zip(answer.spans, answer.scores, strict=True)
    ]
    sure = np.array([score for score, _ in pairs], dtype=np.float64)
    return calibrate(sure, np.array([right for _, right in pairs], dtype=bool))


def of_labels(
    rows: Sequence[Row], outputs: Sequence[RowOutput], labels: Sequence[str]
) -> Calibration | None:
    """One decision per row and label: yes or no."""
    chance = np.stack([sigmoid(output.logits) for output in outputs])  # (rows, labels)
    right = (chance >= MULTI_LABEL_THRESHOLD) == _membership(rows, labels)
    return calibrate(np.maximum(chance, 1.0 - chance).ravel(), right.ravel())


def of_task(
    task: str, rows: Sequence[Row], outputs: Sequence[RowOutput], labels: Sequence[str]
) -> Calibration | None:
    """The task's own kind of decision; None for a task without answers (text-embedding)."""
    if task == "text-embedding":
        return None
    if task == "multi-label-classification":
        return of_labels(rows, outputs, labels)
    answers = [TASKS[task].answer(output, labels) for output in outputs]
    if task == "token-classification":
        return of_spans(rows, answers)
    return of_answers(answers, TASKS[task].right(outputs, rows, labels))


def brier(
    task: str, rows: Sequence[Row], outputs: Sequence[RowOutput], labels: Sequence[str]
) -> float:
    """Brier score, the smaller the better: the squared distance of a row's probabilities from the
    truth (0 to 2), or for several labels the mean squared error of each (0 to 1).

    A label that the model does not know counts as probability 0 for it.
    """
    truth = _membership(rows, labels)
    if task == "multi-label-classification":
        chance = np.stack([sigmoid(output.logits) for output in outputs])
        return float(np.mean((chance - truth) ** 2))
    chance = np.stack([TASKS[task].probabilities(output, labels) for output in outputs])
    unknown = 1.0 - truth.sum(axis=1)
    return float(np.mean(((chance - truth) ** 2).sum(axis=1) + unknown))


def _membership(rows: Sequence[Row], labels: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[label in row.labels for label in labels] for row in rows], dtype=bool)

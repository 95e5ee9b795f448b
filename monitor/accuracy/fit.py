"""What the label-free estimates of accuracy are made from: fitted on the reference rows, whose
labels are known, as the artefact that ships answers them. Written into reference.npz.

ATC: the share of rows whose score is at least a threshold, which is where the share below it equals
the error on the reference (Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution
Performance", ICLR 2022). CBPE: the mean of the calibrated probability that the answer is right, as
NannyML calls it; calibrated by Platt's logistic function of the logit of the highest probability
("Probabilistic Outputs for Support Vector Machines", 1999), two numbers that some hundred rows
settle.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
ScoreName = Literal["max_probability", "negative_entropy"]
SCORES: tuple[ScoreName, ...] = get_args(ScoreName)

FOLDS = 5
# Probabilities nearer to 0 or 1 than this are float32's rounding.
SMALLEST_PROBABILITY = 1e-6
NEWTON_STEPS = 50
NEWTON_TOLERANCE = 1e-10
RIDGE = 1e-6


@dataclass(frozen=True)
class AccuracyFit:
    """`threshold`: ATC's, on `score`; slope and intercept: Platt's; `accuracy`: on the `rows`
    reference rows; the variances are, per reference row, those of what each method gets wrong of
    it; `floor`: the recipe's monitor.accuracy_floor."""

    score: ScoreName
    threshold: float
    slope: float
    intercept: float
    rows: int
    accuracy: float
    atc_variance: float
    cbpe_variance: float
    floor: float

    def confidence(self, probabilities: NDArray[np.floating]) -> float:
        """The calibrated probability that the answer with these probabilities (classes,) is
        right."""
        top = float(probabilities.max())
        return _logistic(self.slope * _logit(top) + self.intercept)

    def is_above(self, probabilities: NDArray[np.floating]) -> bool:
        """Does ATC take the answer for a right one?"""
        if self.score == "max_probability":
            return float(probabilities.max()) >= self.threshold
        return float(negative_entropy(probabilities)) >= self.threshold

    def confidences(self, probabilities: Floats) -> Floats:
        """`confidence` of many answers: probabilities (n, classes) to (n,)."""
        return _logistics(self.slope * _logits(probabilities.max(axis=1)) + self.intercept)

    def are_above(self, probabilities: Floats) -> Bools:
        """`is_above` of many answers: probabilities (n, classes) to (n,)."""
        above: Bools = SCORE_OF[self.score](probabilities) >= self.threshold
        return above

    def to_document(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def from_document(document: dict[str, Any]) -> AccuracyFit:
    """What to_document gave. Raises ValueError or TypeError for something else."""
    fit = AccuracyFit(**document)
    numbers = [value for name, value in asdict(fit).items() if name != "score"]
    if fit.score not in SCORES or not all(
        isinstance(n, int | float) and math.isfinite(n) for n in numbers
    ):
        raise ValueError(f"the accuracy's figures are {document}")
    if fit.rows < 1 or not 0.0 <= fit.accuracy <= 1.0 or not 0.0 < fit.floor <= 1.0:
        raise ValueError(f"accuracy {fit.accuracy} of {fit.rows} rows, floor {fit.floor}")
    return fit


def fit_accuracy(probabilities: Floats, right: Bools, floor: float) -> AccuracyFit:
    """Fit on the probabilities (n, classes) of the reference rows, and which of them were answered
    rightly, (n,). Raises MonitorError where there are no rows or the shapes do not fit."""
    if probabilities.ndim != 2 or not len(right) or len(probabilities) != len(right):
        raise MonitorError(
            f"probabilities {probabilities.shape} and {len(right)} labels are not one row of each "
            "per text; the reference needs labelled rows"
        )
    score = choose_score(probabilities, right)
    scores = SCORE_OF[score](probabilities)
    threshold = atc_threshold(scores, right)
    top = probabilities.max(axis=1)
    slope, intercept = platt(top, right)
    calibrated = _logistics(slope * _logits(top) + intercept)
    missed = (scores < threshold).astype(np.float64) - ~right
    return AccuracyFit(
        score=score,
        threshold=threshold,
        slope=slope,
        intercept=intercept,
        rows=len(right),
        accuracy=float(right.mean()),
        atc_variance=_variance(missed),
        cbpe_variance=_variance(right - calibrated),
        floor=floor,
    )


def choose_score(probabilities: Floats, right: Bools) -> ScoreName:
    """The score whose threshold carries over best to classes that it was not set on: the folds are
    whole predicted classes, so that each held-out one is shifted traffic. Rows in turn where only
    one class is predicted."""
    predicted = probabilities.argmax(axis=1)
    classes = np.unique(predicted)
    if len(classes) > 1:
        fold = np.searchsorted(classes, predicted) % min(FOLDS, len(classes))
    else:
        fold = np.arange(len(right)) % min(FOLDS, len(right))
    losses = [_held_out_error(SCORE_OF[name](probabilities), right, fold) for name in SCORES]
    return SCORES[int(np.argmin(losses))]


def _held_out_error(scores: Floats, right: Bools, fold: NDArray[np.intp]) -> float:
    """Rows by which the estimate is off, summed over the held-out folds."""
    off = 0.0
    for held in np.unique(fold):
        there, rest = fold == held, fold != held
        if not rest.any():
            continue
        threshold = atc_threshold(scores[rest], right[rest])
        off += abs(float(np.sum(scores[there] >= threshold)) - float(np.sum(right[there])))
    return off


def atc_threshold(scores: Floats, right: Bools) -> float:
    """The lowest score that as many rows stay below as were answered wrongly."""
    wrong = int(np.sum(~right))
    if wrong == len(scores):
        return float(np.nextafter(scores.max(), np.inf))
    return float(np.sort(scores)[wrong])


def max_probability(probabilities: NDArray[np.floating]) -> Floats:
    """(..., classes) to (...)."""
    highest: Floats = np.asarray(probabilities, np.float64).max(axis=-1)
    return highest


def negative_entropy(probabilities: NDArray[np.floating]) -> Floats:
    """In nats, (..., classes) to (...): 0 is the surest."""
    p = np.asarray(probabilities, np.float64)
    total: Floats = np.sum(p * np.log(np.maximum(p, SMALLEST_PROBABILITY)), axis=-1)
    return total


SCORE_OF = {"max_probability": max_probability, "negative_entropy": negative_entropy}


def platt(top: Floats, right: Bools) -> tuple[float, float]:
    """Slope and intercept of P(right) = 1 / (1 + exp(-(slope logit(top) + intercept))) by Newton's
    method, with Platt's targets that keep it finite. A slope below 0 would reward doubt: it is 0
    then, and the probability the reference's accuracy."""
    x, wins = _logits(top), int(right.sum())
    target = np.where(right, (wins + 1.0) / (wins + 2.0), 1.0 / (len(right) - wins + 2.0))
    design = np.stack([x, np.ones_like(x)], axis=1)
    weights = np.array([0.0, _logit(float(target.mean()))])
    for _ in range(NEWTON_STEPS):
        p = _logistics(design @ weights)
        gradient = design.T @ (target - p) - RIDGE * weights
        curvature = (design * (p * (1.0 - p))[:, None]).T @ design + RIDGE * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, gradient), -1.0, 1.0)
        weights = weights + step
        if float(np.abs(step).max()) < NEWTON_TOLERANCE:
            break
    if weights[0] <= 0.0:
        return 0.0, _logit(float(target.mean()))
    return float(weights[0]), float(weights[1])


def _variance(values: Floats) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.25


def _logit(p: float) -> float:
    p = min(max(p, SMALLEST_PROBABILITY), 1.0 - SMALLEST_PROBABILITY)
    return math.log(p / (1.0 - p))


def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))


def _logits(p: Floats) -> Floats:
    kept = np.clip(p, SMALLEST_PROBABILITY, 1.0 - SMALLEST_PROBABILITY)
    odds: Floats = np.log(kept / (1.0 - kept))
    return odds


def _logistics(x: Floats) -> Floats:
    p: Floats = 0.5 * (1.0 + np.tanh(0.5 * x))
    return p

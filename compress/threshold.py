"""From which confidence on a cascade's first stage answers, chosen on few labelled rows.

The cascade loses a row where its answer differs from the reference's and the reference was right;
it gains one the other way round. Of 1,000 rows perhaps 20 differ, and counting which of those few
were lost or gained tells little. So they are not counted: both models' logits, weighted so that
they explain the labels best (stacking, Wolpert 1992), say how likely either answer is to be right,
and those chances are summed (a conditional expectation in place of the outcome, Rao 1945 and
Blackwell 1947: the same mean where the chances are calibrated, with less noise). Chosen is the
threshold that is expected to save most: what it saves, times the chance that the certificate on
other rows passes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from scipy.stats import norm

from edgeloop.statistics import rows_needed

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Thresholds that are tried: so many steps of the share that the first stage answers.
STEPS = 50
# With less chance of a certificate than this, no cascade is built.
LEAST_PASS_PROBABILITY = 0.1
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0


@dataclass(frozen=True)
class Trial:
    """The test to come: on so many other rows, the bound at `confidence` of the accuracy lost must
    not be above `margin`."""

    margin: float
    confidence: float
    rows: int


@dataclass(frozen=True)
class Stages:
    """What is known of the choosing rows; each array is (rows,).

    sure             the first stage's confidence
    right_*          the chance that the answer is right: the reference's, the first's, the second's
    *_differs        whether the stage's answer is another one than the reference's
    *_ms             milliseconds of the stage's answer: unsure texts are longer than others
    """

    sure: Floats
    right_reference: Floats
    right_first: Floats
    right_second: Floats
    first_differs: Flags
    second_differs: Flags
    first_ms: Floats
    second_ms: Floats


@dataclass(frozen=True)
class Threshold:
    """From which confidence on the first stage answers, and what that comes to: its share of the
    rows, the mean milliseconds of an answer, the accuracy expected to be lost against the
    reference, the chance that a Trial shows it. Of the one that is chosen the last two are a little
    too good, as of any best of many."""

    value: float
    hit_ratio: float
    cost_ms: float
    drop_ratio: float
    pass_probability: float


def choose_threshold(stages: Stages, trial: Trial) -> Threshold | None:
    """The threshold that is expected to save the second stage most time; None where none has
    LEAST_PASS_PROBABILITY, or where the trial's rows are too few even if not one is lost. The
    certificate's error rate does not rest on this choice: it is tested on other rows.

    Raises ValueError where the arrays differ in length or are empty.
    """
    if len({len(array) for array in vars(stages).values()}) != 1 or not len(stages.sure):
        raise ValueError("the arrays of the stages must have one length, at least 1")
    if trial.rows < rows_needed(0.0, trial.margin, trial.confidence):
        return None
    tried = [_try(stages, trial, value) for value in _grid(stages.sure)]
    whole_ms = float(np.mean(stages.first_ms + stages.second_ms))
    return max(
        (found for found in tried if found.pass_probability >= LEAST_PASS_PROBABILITY),
        key=lambda found: found.pass_probability * (whole_ms - found.cost_ms),
        default=None,
    )


def _grid(sure: Floats) -> list[float]:
    """Thresholds in rising order, at even steps of the share that the first stage answers."""
    steps = np.linspace(0.0, 1.0, STEPS, endpoint=False)
    values: list[float] = np.unique(np.quantile(sure, steps, method="lower")).tolist()
    return values


def _try(stages: Stages, trial: Trial, value: float) -> Threshold:
    is_first = stages.sure >= value
    right = np.where(is_first, stages.right_first, stages.right_second)
    differs = np.where(is_first, stages.first_differs, stages.second_differs)
    lost = (stages.right_reference - right) * differs
    changed = (stages.right_reference + right) * differs  # chance that just one of the two is right
    return Threshold(
        value=value,
        hit_ratio=float(is_first.mean()),
        cost_ms=float(np.mean(stages.first_ms + np.where(is_first, 0.0, stages.second_ms))),
        drop_ratio=float(lost.mean()),
        pass_probability=_pass_probability(lost, changed, trial),
    )


def _pass_probability(lost: Floats, changed: Floats, trial: Trial) -> float:
    """That the trial's bound, a normal one here, comes out within the margin. The drop that it sees
    strays from the one expected here by its own noise and by that of these rows."""
    # As if one row more had changed: none among these rows does not mean that none ever will.
    changed_ratio = (float(changed.sum()) + 1.0) / (len(changed) + 1.0)
    trial_variance = changed_ratio / trial.rows
    spread = np.sqrt(trial_variance + float(lost.var()) / len(lost))
    room = trial.margin - norm.ppf(trial.confidence) * np.sqrt(trial_variance) - lost.mean()
    return float(norm.cdf(room / spread))


def fit_temperature(logits: Floats, truth: Floats, task: str) -> float:
    """What the logits (rows, classes) must be divided by for their probabilities to be likeliest,
    given `truth` (rows, classes) of 0 and 1; within LEAST_ and MOST_TEMPERATURE (Guo et al.
    2017)."""
    limits = (float(np.log(LEAST_TEMPERATURE)), float(np.log(MOST_TEMPERATURE)))
    found = optimize.minimize_scalar(
        lambda log_temperature: _loss(logits / np.exp(log_temperature), truth, task),
        bounds=limits,
        method="bounded",
    )
    return float(np.exp(found.x))


def stack(one: Floats, other: Floats, truth: Floats, task: str) -> Floats:
    """The sum of two models' logits (rows, classes), each times the weight, 0 or more, with which
    the probabilities are likeliest given `truth` (rows, classes) of 0 and 1."""
    found = optimize.minimize(
        lambda weights: _loss(weights[0] * one + weights[1] * other, truth, task),
        x0=(0.5, 0.5),
        bounds=((0.0, MOST_TEMPERATURE), (0.0, MOST_TEMPERATURE)),
        method="L-BFGS-B",
    )
    stacked: Floats = found.x[0] * one + found.x[1] * other
    return stacked


def _loss(logits: Floats, truth: Floats, task: str) -> float:
    """Mean negative log likelihood of a row: of softmax or of one sigmoid per class."""
    if task == "text-classification":
        shifted = logits - logits.max(axis=1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(axis=1)) - (truth * shifted).sum(axis=1)).mean())
    return float((np.logaddexp(0.0, logits) - truth * logits).sum(axis=1).mean())


def chosen_labels(logits: Floats, task: str) -> Flags:
    """(rows, classes): which labels the logits answer, as edgeloop.tasks does."""
    if task == "text-classification":
        is_best: Flags = np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None]
        return is_best
    return logits > 0.0


def chance_of(answers: Flags, logits: Floats, task: str) -> Floats:
    """(rows,): the probability, by logits (rows, classes), that `answers` (rows, classes) is the
    whole truth."""
    if task == "text-classification":
        shifted = logits - logits.max(axis=1, keepdims=True)
        of_answer = np.where(answers, shifted, 0.0).sum(axis=1)
        chance: Floats = np.exp(of_answer) / np.exp(shifted).sum(axis=1)
        return chance
    whole: Floats = np.exp(-np.logaddexp(0.0, np.where(answers, -logits, logits)).sum(axis=1))
    return whole

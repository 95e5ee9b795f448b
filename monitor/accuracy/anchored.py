"""A label-free estimate, put right by labels of rows that were drawn at random.

theta = mean_w(y) + lambda (mean_traffic(f) - mean_w(f)): y is whether a labelled row was answered
rightly, f the calibrated confidence in that, w the inverse of the row's inclusion probability. With
any lambda it is right on average, whatever f is worth; the lambda that makes the variance least is
used, so that a worthless f costs nothing. The means over labelled rows are Hajek's (ratios of
weighted sums), their variance is the linearised one.

Sources: Angelopoulos, Bates, Fannjiang, Jordan and Zrnic, "Prediction-powered inference", Science
382 (2023); Angelopoulos, Duchi and Zrnic, "PPI++", 2023, for lambda; Särndal, Swensson and Wretman,
"Model Assisted Survey Sampling" (1992), section 5.7, for the ratio.
"""

import math
from dataclasses import dataclass

from edgeloop.observer import Bounded
from monitor.accuracy.fit import Floats

# The interval is Student's: below this many rows that would be a guess.
LEAST_LABELS = 50
Z = 1.96  # 95 %, two-sided


@dataclass(frozen=True)
class Traffic:
    """The calibrated confidence over the rows of the window."""

    mean: float
    variance: float
    rows: int


def anchored(
    right: Floats, confidence: Floats, weights: Floats, traffic: Traffic
) -> Bounded | None:
    """A 95 % interval of the accuracy, from right (0 or 1), confidence and weights > 0 of labelled
    rows, each (n,). None below LEAST_LABELS or without traffic."""
    rows = len(right)
    if rows < LEAST_LABELS or traffic.rows < 2:
        return None
    share = weights / weights.sum()
    y, f = float(share @ right), float(share @ confidence)
    # Kish's: as many rows of equal weight say as much. Mean and lambda are fitted: two fewer.
    freedom = 1.0 / float(share @ share) - 2.0
    square = share**2 * rows / (rows - 2.0)
    power = _power(square, right - y, confidence - f, traffic)
    residual = (right - y) - power * (confidence - f)
    error = math.sqrt(float(square @ residual**2) + power**2 * traffic.variance / traffic.rows)
    value = y + power * (traffic.mean - f)
    # Labels that hardly differ leave no variance, but are no proof of perfection: rule of three.
    reach = max(_student(max(1.0, freedom)) * error, 3.0 * float(share @ share))
    return Bounded(*(min(1.0, max(0.0, at)) for at in (value - reach, value, value + reach)))


def _student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t, to the first order of 1 / freedom."""
    return Z + (Z**3 + Z) / (4.0 * freedom)


def _power(square: Floats, right: Floats, confidence: Floats, traffic: Traffic) -> float:
    """The lambda of least variance, within [0, 1]."""
    spread = float(square @ confidence**2) + traffic.variance / traffic.rows
    if spread <= 0.0:
        return 0.0
    return min(1.0, max(0.0, float(square @ (right * confidence)) / spread))

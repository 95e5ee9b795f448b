"""The population stability index with a threshold that knows how many rows were compared.

PSI = sum (p - q) ln(p / q) over the bins. Without drift PSI / (1/n + 1/m) is about chi-squared with
one degree of freedom less than there are bins (Yurdakul, "Statistical properties of population
stability index", 2018): the usual 0.1 and 0.25 mean something else at every sample size. Half a row
is added to every bin, so that an empty one is no infinite evidence; in PromQL the same is computed
from edgeloop_feature_bin_total and edgeloop_reference_bin_ratio.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ADDED_ROWS = 0.5
LEVEL = 0.01
SERIES_TERMS = 2_000
SMALLEST_TERM = 1e-16
BISECTIONS = 100


def bin_ratios(counts: Sequence[int] | NDArray[np.int64]) -> Floats:
    """Each bin's share of the rows, half a row added to each: (..., bins) -> (..., bins)."""
    added = np.asarray(counts, dtype=np.float64) + ADDED_ROWS
    ratios: Floats = added / added.sum(axis=-1, keepdims=True)
    return ratios


def psi(
    counts: Sequence[int] | NDArray[np.int64], reference: Sequence[int] | NDArray[np.int64]
) -> Floats:
    """PSI of counts (..., bins) against the reference's counts (bins,), of which none is 0."""
    p, q = bin_ratios(counts), bin_ratios(reference)
    found: Floats = np.sum((p - q) * np.log(p / q), axis=-1)
    return found


def psi_threshold(rows: int, reference_rows: int, bins: int, level: float = LEVEL) -> float:
    """What PSI exceeds without drift with probability `level`, at the sizes of both samples. Of one
    bin alone there is nothing to compare: infinity."""
    if bins < 2 or rows < 1:
        return math.inf
    quantile = chi_squared_quantile(1.0 - level, bins - 1)
    return quantile * (1.0 / rows + 1.0 / reference_rows)


def chi_squared_quantile(probability: float, degrees: int) -> float:
    """The value that a chi-squared variable stays below with this probability, in (0, 1)."""
    low, high = 0.0, float(degrees)
    while _chi_squared_cdf(high, degrees) < probability:
        high *= 2.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        below = _chi_squared_cdf(middle, degrees) < probability
        low, high = (middle, high) if below else (low, middle)
    return (low + high) / 2.0


def _chi_squared_cdf(value: float, degrees: int) -> float:
    """The regularised lower incomplete gamma function by its series (Abramowitz and Stegun,
    6.5.29)."""
    shape, x = degrees / 2.0, value / 2.0
    if x <= 0.0:
        return 0.0
    term = total = 1.0 / shape
    for k in range(1, SERIES_TERMS):
        term *= x / (shape + k)
        total += term
        if term < total * SMALLEST_TERM:
            break
    return total * math.exp(shape * math.log(x) - x - math.lgamma(shape))

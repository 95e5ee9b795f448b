"""Numbers counted in the reference's deciles, and the population stability index (PSI) of two such
counts with the threshold that their sizes ask for.

Without drift PSI / (1/n + 1/m) is about chi-squared with one degree less than there are bins, so
that a fixed limit of 0.1 or 0.25 alarms always on few rows and never on many.
Source: Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal
of Risk Model Validation 14 (2020).
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS = 10
# What every bin is given, so that an empty one has a logarithm.
PRIOR_ROWS = 0.5
BISECTIONS = 60


def decile_edges(values: Floats) -> Floats:
    """The inner edges, rising, of up to BINS bins with about as many of `values` (n,) each; a bin
    holds what is above its lower and at most its upper edge. A value that many rows share has a bin
    of its own. NaN is left out; without values there are no edges."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return np.empty(0)
    levels = np.arange(1, BINS) / BINS
    quantiles = np.quantile(known, levels, method="inverted_cdf")
    shared = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    edges: Floats = np.unique(np.concatenate([quantiles, np.nextafter(shared, -np.inf)]))
    return edges


def count_bins(values: Floats, edges: Floats) -> Counts:
    """How many of `values` (n,) lie in each bin, (len(edges) + 1,); NaN is left out."""
    known = values[~np.isnan(values)]
    return np.bincount(np.searchsorted(edges, known, "left"), minlength=len(edges) + 1)


def psi(counts: Counts, reference: Counts) -> float:
    """Population stability index of two counts (bins,), each with PRIOR_ROWS added to every bin."""
    p = (counts + PRIOR_ROWS) / (counts.sum() + PRIOR_ROWS * len(counts))
    q = (reference + PRIOR_ROWS) / (reference.sum() + PRIOR_ROWS * len(reference))
    return float(np.sum((p - q) * np.log(p / q)))


def psi_threshold(rows: int, reference_rows: int, bins: int, level: float) -> float:
    """The PSI that two samples of one distribution exceed with probability `level`."""
    if min(rows, reference_rows) == 0 or bins < 2:
        return math.inf
    return chi_squared_quantile(level, bins - 1) * (1.0 / rows + 1.0 / reference_rows)


def chi_squared_quantile(level: float, degrees: int) -> float:
    """The value that a chi-squared variable exceeds with probability `level`, in (0, 1)."""
    low, high = 0.0, 10.0 * degrees + 1_500.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        above = chi_squared_tail(middle, degrees) > level
        low, high = (middle, high) if above else (low, middle)
    return high


def chi_squared_tail(x: float, degrees: int) -> float:
    """P(X > x) of a chi-squared variable with `degrees` >= 1 (Abramowitz and Stegun 26.4.4-5)."""
    if x <= 0.0:
        return 1.0
    half = x / 2.0
    start = 0.0 if degrees % 2 == 0 else 0.5
    orders = [start + k for k in range((degrees + 1) // 2) if start + k < degrees / 2.0]
    tail = math.fsum(
        math.exp(order * math.log(half) - half - math.lgamma(order + 1.0)) for order in orders
    )
    return min(tail + (math.erfc(math.sqrt(half)) if degrees % 2 else 0.0), 1.0)

"""Have two samples of a number the same distribution? Two-sample Kolmogorov-Smirnov tests, and
Holm's correction for asking many questions at once. Numpy only: reports are written where models
serve.

Sources: Hodges, "The significance probability of the Smirnov two-sample test" (1958) for the exact
tail, which counts lattice paths; Stephens, JRSS-B 32 (1970) for the correction of the asymptotic
one; Holm, "A simple sequentially rejective multiple test procedure" (1979).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Up to so many values in both samples together the tail is counted exactly: above, the binomial
# coefficient leaves the range of a float.
EXACT_VALUES = 1_000
SERIES_TERMS = 101


@dataclass(frozen=True)
class KsTest:
    """The largest distance between two empirical distributions, in [0, 1], and how probable one as
    large is where both samples come from one distribution. Ties make the p-value too large."""

    distance: float
    p_value: float


def ks_test(reference: Floats, values: Floats) -> KsTest:
    """Two-sample test of `reference` (n,), sorted, against `values` (m,), in any order, both
    without NaN. An empty sample tells nothing: p is 1."""
    n, m = len(reference), len(values)
    if n == 0 or m == 0:
        return KsTest(0.0, 1.0)
    ordered = np.sort(values)
    # The distance is largest at a value of one sample, or just before it.
    at = np.arange(1, m + 1) * n - np.searchsorted(reference, ordered, "right") * m
    before = np.searchsorted(reference, ordered, "left") * m - np.searchsorted(ordered, ordered) * n
    # With ties the last of the equal values counts: the step is complete there.
    complete = np.append(ordered[1:] != ordered[:-1], True)
    largest = int(max(at[complete].max(), before.max(), 0))
    return KsTest(largest / (n * m), ks_p_value(largest, n, m))


def ks_p_value(distance: int, n: int, m: int) -> float:
    """P(D >= distance / (n m)) for independent samples of n and m values of one continuous
    distribution; `distance` is that of the counts, an integer."""
    if distance <= 0:
        return 1.0
    if n + m <= EXACT_VALUES:
        return _exact_tail(distance, min(n, m), max(n, m))
    root = math.sqrt(n * m / (n + m))
    return kolmogorov_tail((root + 0.12 + 0.11 / root) * distance / (n * m))


def _exact_tail(distance: int, n: int, m: int) -> float:
    """1 - the share of lattice paths from (0, 0) to (n, m) that stay nearer than the distance."""
    columns = np.arange(m + 1)
    paths = np.where(columns * n < distance, 1.0, 0.0)
    for row in range(1, n + 1):
        near = np.abs(row * m - columns * n) < distance
        paths = np.cumsum(np.where(near, paths, 0.0))
        paths[~near] = 0.0
    return float(min(max(1.0 - paths[-1] / math.comb(n + m, n), 0.0), 1.0))


def kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution."""
    if x < 0.2:
        return 1.0  # to fifteen digits, where the series converges slowly
    k = np.arange(1, SERIES_TERMS)
    terms = np.where(k % 2 == 1, 2.0, -2.0) * np.exp(-2.0 * k**2 * x * x)
    return float(min(max(terms.sum(), 0.0), 1.0))


def chi_squared_tail(x: float, degrees: int) -> float:
    """P(X > x) of a chi-squared variable with `degrees` >= 1 (Abramowitz and Stegun 26.4.4-5)."""
    half = x / 2.0
    if half <= 0.0:
        return 1.0
    # Orders 0, 1, 2, ... below degrees / 2, or 1/2, 3/2, ... where that is odd.
    orders = np.arange(degrees % 2 / 2.0, degrees / 2.0)
    tail = math.fsum(math.exp(k * math.log(half) - half - math.lgamma(k + 1.0)) for k in orders)
    return min(tail + (math.erfc(math.sqrt(half)) if degrees % 2 else 0.0), 1.0)


def holm(p_values: Floats) -> Floats:
    """Adjusted p-values of any shape: those at most alpha are significant, and with probability
    1 - alpha none of them is so by chance, however the tests depend on one another."""
    flat = p_values.ravel()
    order = np.argsort(flat, kind="stable")
    stepped = np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1))
    adjusted = np.empty(flat.size)
    adjusted[order] = np.minimum(stepped, 1.0)
    shaped: Floats = adjusted.reshape(p_values.shape)
    return shaped

"""A figure of merit as a formula over sums of what each row contributes, and its interval by the
bootstrap over rows.

Rows that contribute alike are one kind, and a resample of the rows is a multinomial draw of kinds:
the same distribution as drawing rows, at the cost of the kinds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgeloop.figures import Floats
from edgeloop.records import Interval

Integers = NDArray[np.int64]
Formula = Callable[[Floats], Floats]

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 0
# Cells of a block of resamples: 16 MB of counts at a time.
BLOCK_CELLS = 2_000_000


@dataclass(frozen=True)
class Measure:
    """`kinds` (kinds, parts): what a row of each kind adds to the sums; `kind` (rows,): the kind of
    each row; `formula`: sums (..., parts) to figures (...), from `lowest` to `highest`."""

    kinds: Floats
    kind: Integers
    formula: Formula
    lowest: float = 0.0
    highest: float = 1.0

    @classmethod
    def of_rows(cls, parts: NDArray[np.generic], formula: Formula) -> "Measure":
        """From what each row contributes: (rows, parts)."""
        kinds, kind = np.unique(parts.astype(np.float64), axis=0, return_inverse=True)
        return cls(kinds, kind.reshape(-1).astype(np.int64), formula)

    @property
    def rows(self) -> int:
        """How many rows it is taken over."""
        return len(self.kind)

    @property
    def counts(self) -> Integers:
        """Rows per kind: (kinds,)."""
        return np.bincount(self.kind, minlength=len(self.kinds)).astype(np.int64)

    @property
    def value(self) -> float:
        """The figure."""
        return float(self.formula(self.counts @ self.kinds))


def mean(values: NDArray[np.generic]) -> Measure:
    """The mean of one number per row: (rows,)."""
    parts = np.column_stack([values.astype(np.float64), np.ones(len(values))])
    return Measure.of_rows(parts, lambda sums: sums[..., 0] / sums[..., 1])


def difference(first: Measure, second: Measure) -> Measure:
    """The first figure less the second, over the same rows.

    Raises ValueError where the rows do not pair.
    """
    if first.rows != second.rows:
        raise ValueError(f"figures over {first.rows} and {second.rows} rows do not pair")
    pairs, kind = np.unique(np.column_stack([first.kind, second.kind]), axis=0, return_inverse=True)
    kinds = np.hstack([first.kinds[pairs[:, 0]], second.kinds[pairs[:, 1]]])
    parts = first.kinds.shape[1]
    return Measure(
        kinds,
        kind.reshape(-1).astype(np.int64),
        lambda sums: first.formula(sums[..., :parts]) - second.formula(sums[..., parts:]),
        lowest=first.lowest - second.highest,
        highest=first.highest - second.lowest,
    )


def interval(
    measure: Measure, confidence: float = CONFIDENCE, seed: int = SEED, resamples: int = RESAMPLES
) -> Interval:
    """Two-sided bootstrap interval, bias-corrected and accelerated (Efron 1987), rows resampled.

    Where no resample differs from the figure (no row wrong, or all alike), rows of a kind that was
    not seen may still exist: at most the share that zero of `rows` leaves open (Clopper and Pearson
    1934), by which the interval is widened within the figure's range.
    """
    tail = (1.0 - confidence) / 2.0
    low, high = quantiles(measure, (tail, 1.0 - tail), seed, resamples)
    value = measure.value
    return Interval(value=value, low=min(low, value), high=max(high, value))


def upper_bound(
    measure: Measure, confidence: float, seed: int = SEED, resamples: int = RESAMPLES
) -> float:
    """One-sided upper bound by the same bootstrap, and not below the figure itself."""
    return max(quantiles(measure, (confidence,), seed, resamples)[0], measure.value)


def quantiles(
    measure: Measure, levels: Sequence[float], seed: int, resamples: int
) -> tuple[float, ...]:
    """The BCa ends at these levels. Raises ValueError where there are no rows."""
    if measure.rows == 0:
        raise ValueError("a figure over 0 rows has no interval")
    drawn, value = _resample(measure, seed, resamples), measure.value
    if np.ptp(drawn) < 1e-12:
        return tuple(_unseen(measure, level) for level in levels)
    below = np.mean(drawn < value - 1e-12) + 0.5 * np.mean(np.abs(drawn - value) <= 1e-12)
    bias = stats.norm.ppf(np.clip(below, 0.5 / resamples, 1.0 - 0.5 / resamples))
    z = bias + stats.norm.ppf(levels)
    adjusted = stats.norm.cdf(bias + z / (1.0 - _acceleration(measure) * z))
    return tuple(float(q) for q in np.quantile(drawn, adjusted))


def _resample(measure: Measure, seed: int, resamples: int) -> Floats:
    """The figure on each resample: (resamples,)."""
    rng = np.random.default_rng(seed)
    counts = measure.counts
    block = max(1, BLOCK_CELLS // len(counts))
    figures = []
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.multinomial(measure.rows, counts / measure.rows, size=size)
        figures.append(measure.formula(drawn @ measure.kinds))
    return np.concatenate(figures)


def _acceleration(measure: Measure) -> float:
    """From the figure with each row left out in turn."""
    counts = measure.counts
    if measure.rows < 2:
        return 0.0
    without = measure.formula(counts @ measure.kinds - measure.kinds)
    gap = np.average(without, weights=counts) - without
    spread = float(counts @ gap**2)
    return float(counts @ gap**3) / (6.0 * spread**1.5) if spread > 0.0 else 0.0


def _unseen(measure: Measure, level: float) -> float:
    """The end at `level` where all resamples agree."""
    share = 1.0 - min(level, 1.0 - level) ** (1.0 / measure.rows)
    moved = measure.value + (share if level > 0.5 else -share)
    return float(np.clip(moved, measure.lowest, measure.highest))

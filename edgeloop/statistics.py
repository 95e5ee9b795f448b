"""Intervals and tests whose stated confidence holds at every sample size, not only at large ones.

Used wherever a figure decides something: the budget's contract (compress) and the gate between
champion and challenger (retrain). Needs scipy (extra `train`), never torch.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from edgeloop.records import Interval, PairedDrop

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Outcomes are ranked by Tango's limit at this level whatever the confidence that is asked for:
# with one ranking for all levels a higher confidence can only give a higher bound.
ORDERING_Z = 1.6448536269514722
# The share of alpha that is spent on leaving implausible gain rates out (Berger and Boos 1994).
NUISANCE_SHARE = 0.01
NUISANCE_CELLS = 256
BISECTIONS = 20
NEGLIGIBLE = 1e-9


def clopper_pearson(successes: int, rows: int, confidence: float) -> tuple[float, float]:
    """Two-sided exact interval of a proportion (Clopper and Pearson 1934): (low, high).

    Raises ValueError where successes is not within 0..rows or confidence not within (0, 1).
    """
    _check_confidence(confidence)
    if rows < 1 or not 0 <= successes <= rows:
        raise ValueError(f"{successes} successes of {rows} rows is not a proportion")
    tail = (1.0 - confidence) / 2.0
    low = stats.beta.ppf(tail, successes, rows - successes + 1) if successes else 0.0
    high = stats.beta.ppf(1.0 - tail, successes + 1, rows - successes) if successes < rows else 1.0
    return float(low), float(high)


def paired_superiority_p(lost: int, gained: int) -> float:
    """Exact one-sided McNemar p-value for "the candidate is better": 1 without discordant rows."""
    if lost < 0 or gained < 0:
        raise ValueError(f"lost {lost} and gained {gained} are counts, they cannot be negative")
    return float(stats.binom.sf(gained - 1, lost + gained, 0.5))


def rows_needed(
    discordant_ratio: float, margin: float, confidence: float, power: float = 0.8
) -> int:
    """Rows at which a paired test shows, with `power`, that a model with no true drop loses less
    than `margin`. Source: Connor 1987 for the normal part; where hardly any row is discordant, the
    rows at which not one loss among all of them is proof enough.

    Raises ValueError where margin is not within (0, 1) or discordant_ratio not within [0, 1].
    """
    _check_confidence(confidence)
    _check_confidence(power)
    if not 0.0 < margin < 1.0 or not 0.0 <= discordant_ratio <= 1.0:
        raise ValueError(f"margin {margin}, discordant_ratio {discordant_ratio}: not ratios")
    z = stats.norm.ppf(confidence) + stats.norm.ppf(power)
    normal = max(z, 0.0) ** 2 * discordant_ratio / margin**2
    none_lost = math.log(1.0 - confidence) / math.log1p(-margin)
    rows: int = math.ceil(max(normal, none_lost))
    return rows


def quantile_rows_needed(q: float, confidence: float) -> int:
    """Independent rows at which `quantile_interval` has both of its ends."""
    _check_confidence(confidence)
    tail = (1.0 - confidence) / 2.0
    return math.ceil(math.log(tail) / math.log(max(q, 1.0 - q)))


def quantile_interval(samples: NDArray[np.floating], q: float, confidence: float) -> Interval:
    """The q-quantile of independent rows, (rows,) or (rows, repeats), with a distribution-free
    two-sided interval between order statistics (David and Nagaraja 2003, section 7.1).

    Repeats of a row add no independent rows: the ranks are those of `rows` samples, applied to
    all. With fewer rows than `quantile_rows_needed` an end is only the smallest or largest sample.

    Raises ValueError where samples is empty or q is not within (0, 1).
    """
    _check_confidence(confidence)
    if samples.size == 0 or not 0.0 < q < 1.0:
        raise ValueError(f"the {q} quantile of {samples.size} samples does not exist")
    rows, pooled = len(samples), np.sort(samples, axis=None)
    repeats = pooled.size // rows
    tail = (1.0 - confidence) / 2.0
    # P(at most k of the rows lie below the quantile) is binomial; ranks count from 1.
    low = int(stats.binom.ppf(tail, rows, q))
    high = int(stats.binom.ppf(1.0 - tail, rows, q)) + 1
    return Interval(
        value=float(np.quantile(pooled, q)),
        low=float(pooled[(max(low, 1) - 1) * repeats]),
        high=float(pooled[min(high, rows) * repeats - 1]),
    )


def paired_drop(
    reference_correct: NDArray[np.bool_], candidate_correct: NDArray[np.bool_], confidence: float
) -> PairedDrop:
    """Drop in accuracy on the same rows, with a one-sided upper bound that holds at `confidence`.

    Both arrays are (rows,). Raises ValueError where they are empty or differ in length.
    """
    reference = np.asarray(reference_correct, dtype=bool)
    candidate = np.asarray(candidate_correct, dtype=bool)
    if reference.shape != candidate.shape or reference.ndim != 1 or reference.size == 0:
        raise ValueError(f"answers of {reference.shape} and {candidate.shape} rows do not pair")
    rows = reference.size
    lost = int(np.sum(reference & ~candidate))
    gained = int(np.sum(~reference & candidate))
    return PairedDrop(
        rows=rows,
        reference_accuracy=float(reference.mean()),
        candidate_accuracy=float(candidate.mean()),
        lost=lost,
        gained=gained,
        drop_ratio=(lost - gained) / rows,
        upper_bound_ratio=drop_upper_bound(lost, gained, rows, confidence),
        confidence=confidence,
    )


@lru_cache(maxsize=4096)  # a tenth of a second each, and a search asks for the same counts often
def drop_upper_bound(lost: int, gained: int, rows: int, confidence: float) -> float:
    """Upper confidence bound of P(lost) - P(gained) from the counts of one paired sample.

    Exact and unconditional: Buehler's bound (Buehler 1957; Kabaila and Lloyd 2003), which is the
    lowest of all valid bounds that rank the outcomes alike, over the ranking by the score limit of
    Tango 1998. The gain rate is a nuisance parameter: it is restricted to its own confidence
    interval, the error of which is taken off alpha (Berger and Boos 1994), and covered by cells in
    each of which the tail probability is bounded from above, so that no grid point is missed.
    """
    _check_confidence(confidence)
    if min(lost, gained) < 0 or lost + gained > rows or rows < 1:
        raise ValueError(f"lost {lost} and gained {gained} do not fit into {rows} rows")
    alpha = 1.0 - confidence
    spent = alpha * NUISANCE_SHARE
    edges = np.linspace(*clopper_pearson(gained, rows, 1.0 - spent), NUISANCE_CELLS + 1)
    tail = _Tail(lost, gained, rows)
    # Within a cell the tail probability is at most that of the least loss and the most gain.
    loss = tail.largest_loss(edges[1:], 1.0 - edges[:-1], alpha - spent)
    return float(min(np.max(loss - edges[:-1]), 1.0))


class _Tail:
    """All outcomes (b lost, c gained) that speak for as small a drop as the observed one, or for a
    smaller one. With an outcome the set holds those of fewer losses and of more gains, so its
    probability falls in the loss rate and grows in the gain rate."""

    def __init__(self, lost: int, gained: int, rows: int) -> None:
        self.rows = rows
        self.limit = _tango_limit(lost, gained, rows)
        self.most_lost = self._most_lost()
        self.most_lost[gained:] = np.maximum(self.most_lost[gained:], lost)

    def _most_lost(self) -> Integers:
        """For every count of gains the most losses in the set, -1 where there are none: (n+1,)."""
        gained = np.arange(self.rows + 1)
        low = np.full(self.rows + 1, -1)
        high = self.rows - gained + 1
        while np.any(high - low > 1):
            middle = (low + high) // 2
            score = _tango_score(np.maximum(middle, 0), gained, self.rows, self.limit)
            inside = (score <= -ORDERING_Z + NEGLIGIBLE) | (middle < 0)
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        # A larger set is still valid, and this form is what the cells rely on.
        most: Integers = np.maximum.accumulate(low)
        return most

    def largest_loss(self, gain: Floats, ceiling: Floats, alpha: float) -> Floats:
        """Per gain rate the lowest loss rate that makes the set improbable, up to `ceiling`."""
        counts, weight = self._gains(gain)
        trials = self.rows - counts
        most = np.minimum(self.most_lost[counts], trials)
        low, high = np.zeros_like(gain), ceiling.copy()
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            share = np.minimum(middle / np.maximum(1.0 - gain, NEGLIGIBLE), 1.0)[:, None]
            below = np.where(most < 0, 0.0, special.bdtr(np.maximum(most, 0), trials, share))
            probable = np.sum(weight * below, axis=1) + NEGLIGIBLE > alpha
            low, high = np.where(probable, middle, low), np.where(probable, high, middle)
        return high

    def _gains(self, gain: Floats) -> tuple[Integers, Floats]:
        """Counts of gains that are not negligible, and their probability: (cells, window)."""
        low = stats.binom.ppf(NEGLIGIBLE / 2.0, self.rows, gain).astype(np.int64)
        high = stats.binom.isf(NEGLIGIBLE / 2.0, self.rows, gain).astype(np.int64)
        counts = low[:, None] + np.arange(int(np.max(high - low)) + 1)
        inside = counts <= self.rows
        counts = np.minimum(counts, self.rows)
        return counts, np.where(inside, stats.binom.pmf(counts, self.rows, gain[:, None]), 0.0)


def _tango_score(lost: Integers, gained: Integers, rows: int, drop: float) -> Floats:
    """Score statistic of "the drop is `drop`" (Tango 1998, equations 6 to 8)."""
    b = (2.0 * rows - lost + gained) * drop - lost - gained
    c = -gained * drop * (1.0 - drop)
    gain = (np.sqrt(np.maximum(b * b - 8.0 * rows * c, 0.0)) - b) / (4.0 * rows)
    variance = np.maximum(rows * (2.0 * gain + drop * (1.0 - drop)), NEGLIGIBLE**2)
    score: Floats = (lost - gained - rows * drop) / np.sqrt(variance)
    return score


def _tango_limit(lost: int, gained: int, rows: int) -> float:
    """The largest drop that the score test at ORDERING_Z does not reject."""
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2.0
        score = _tango_score(np.asarray(lost), np.asarray(gained), rows, middle)
        low, high = (middle, high) if score > -ORDERING_Z else (low, middle)
    return high


def _check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not within (0, 1)")

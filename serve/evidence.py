"""Is a bundle on trial worse than it may be, or fine? Betting e-processes that may be looked at
after every answer, in numpy over any leading axes, so that what is simulated is what judges.

Three questions, each a mean of "badness" x in [low, 1] that may be at most `bound`:
    errors     failed here minus failed there, on the same text      low -1, bound error_margin
    latency    slower than ratio x L minus the stable one slower than L, L the stable bundle's p95
               of the texts before                                   low -1, bound LATENCY_MARGIN
    agreement  1 where the two answer differently                    low  0, bound 1 - agreement
"Worse" bets on E[x | past] > bound, "fine" on E[x | past] < bound: with b within what can be lost,
    K <- K (1 + b (x - bound))  and  K <- K (1 + b (bound - x))
are nonnegative supermartingales where the other side is true, so that K ever reaches 1 / alpha
with probability alpha at most (Ville). The average over the bets, and over questions, is one too.

A bundle that was fine for days must still be found when it gets worse, so "worse" averages over
when to begin to bet as well: half the stake at the first answer, the rest as 1 / (t (t + 1)).
"Fine" is bet on from the first answer alone: whoever was worse in between has to make up for it.

Sources: Ville, "Étude critique de la notion de collectif" (1939); Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", JRSS-B 86 (2024), for the bets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

QUESTIONS = ("errors", "latency", "agreement")
SIDES = ("worse", "fine")
LATENCY_MARGIN = 0.05
# Shares of the largest bet that cannot lose everything; small ones find small differences.
FRACTIONS = (0.05, 0.15, 0.4, 0.7, 0.95)
LOG_CAP = 69.0  # 1e30: more says nothing more


@dataclass(frozen=True)
class Bounds:
    """The largest means that are allowed, (questions,), and which questions are judged."""

    bound: Floats
    low: Floats
    judged: NDArray[np.bool_]

    @classmethod
    def of(cls, error_margin: float, agreement: float | None) -> "Bounds":
        """From what serve.yaml says; without `agreement` that question is not judged."""
        differ = 0.5 if agreement is None else 1.0 - agreement
        return cls(
            np.array([error_margin, LATENCY_MARGIN, differ]),
            np.array([-1.0, -1.0, 0.0]),
            np.array([True, True, agreement is not None]),
        )

    def bets(self) -> Floats:
        """(sides, questions, members)"""
        largest = np.stack([1.0 / (self.bound - self.low), 1.0 / (1.0 - self.bound)])
        bets: Floats = largest[..., None] * np.array(FRACTIONS)
        return bets


@dataclass(frozen=True)
class Standing:
    """The evidence of the moment: `worse` and `fine` by question, and of all together."""

    compared: int
    worse: float
    fine: float
    questions: dict[str, dict[str, float]]


def start(leading: Sequence[int] = ()) -> Floats:
    """Log of the wealth that is at stake before the first answer: (..., sides, questions,
    members)."""
    log_wealth = np.zeros((*leading, len(SIDES), len(QUESTIONS), len(FRACTIONS)))
    log_wealth[..., 0, :, :] = -np.inf
    return log_wealth


def advance(log_wealth: Floats, at: int, badness: Floats, bounds: Bounds, bets: Floats) -> None:
    """Compared answer number `at`, from 1, in place: badness (..., questions), NaN where it says
    nothing."""
    excess = np.where(np.isnan(badness), 0.0, badness - bounds.bound)
    payoff = np.stack([excess, -excess], axis=-2)[..., None]
    log_stake = math.log(_unspent(at - 1) - _unspent(at))
    log_wealth[..., 0, :, :] = np.logaddexp(log_wealth[..., 0, :, :], log_stake)
    log_wealth += np.log1p(bets * payoff)


def evidence(log_wealth: Floats, at: int) -> Floats:
    """The average over the bets after `at` answers: (..., sides, questions), 1 before the first."""
    means: Floats = np.exp(np.minimum(log_wealth, LOG_CAP)).mean(axis=-1)
    means[..., 0, :] += _unspent(at)
    return means


def _unspent(at: int) -> float:
    """The stake on "worse" that begins to bet after answer `at` only."""
    return 1.0 if at == 0 else 0.5 / (at + 1)


def totals(found: Floats, bounds: Bounds) -> Floats:
    """(..., sides): worse in any question, the average; fine in every question, the least."""
    judged = found[..., bounds.judged]
    return np.stack([judged[..., 0, :].mean(axis=-1), judged[..., 1, :].min(axis=-1)], axis=-1)

"""Labelled accuracy with bounds that hold at every moment at once, however often they are looked
at, and whatever the accuracy does meanwhile.

Each label is a 0 or 1. Betting eta on it multiplies the wealth by exp(eta x - psi(eta, m)), where
psi(eta, m) = log(1 - m + m exp(eta)): of mean 1 at most where m is the label's mean given the past.
psi is concave in m, so that against the mean m of n labels' own means the wealth
exp(eta s - n psi(eta, m)) is never above a product of such bets (Jensen). Averaged over a grid of
eta that does not depend on m it therefore reaches 1/alpha with probability alpha at most (Ville),
whatever the accuracies of the rows were: they need not be equal, nor the rows independent. What it
has not reached yet are the bounds.

The wealth depends on the labels through s and n alone. So it does not matter in which order labels
arrive, and a corrected label simply counts as what it is now.

Sources: Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic
confidence sequences", Annals of Statistics 49 (2021): sub-Bernoulli mixtures; Waudby-Smith and
Ramdas, "Estimating means of bounded random variables by betting", JRSS-B 86 (2024), whose hedged
capital depends on the order of the labels and on an accuracy that does not move, and is otherwise
much the same for zeros and ones.
"""

import math

import numpy as np

from monitor.accuracy.fit import Floats

# Bets on a difference of one in a thousand and of everything, and what lies between.
ETAS: Floats = np.geomspace(0.05, 6.0, 24)
BISECTIONS = 40


def log_wealth(mean: float, wins: int, labels: int) -> float:
    """Of having bet that the mean is lower than this, the average over ETAS."""
    psi = np.log1p(mean * np.expm1(-ETAS))
    bets = -ETAS * wins - labels * psi
    top = float(bets.max())
    return top + math.log(float(np.exp(bets - top).mean()))


def upper_bound(wins: int, labels: int, alpha: float) -> float:
    """One-sided: above the mean at all times at once with probability 1 - alpha."""
    if wins >= labels:
        return 1.0
    limit = math.log(1.0 / alpha)
    if log_wealth(1.0, wins, labels) < limit:
        return 1.0
    low, high = wins / labels, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if log_wealth(middle, wins, labels) >= limit else (middle, high)
    return high


def lower_bound(wins: int, labels: int, alpha: float) -> float:
    """One-sided: below the mean at all times at once with probability 1 - alpha."""
    return 1.0 - upper_bound(labels - wins, labels, alpha)


class Renewed:
    """Bounds of the accuracy of late: a count of labels that begins anew every `renew` labels. The
    bounds are of the older of two counts, so of between the last `renew` and twice as many labels.

    Each count keeps its bounds with probability 1 - alpha, for all of its time at once. Over many
    counts, that share of them does.
    """

    def __init__(self, renew: int) -> None:
        self._renew = renew
        self.counted = 0
        self._starts, self._wins = [0], [0]

    def add(self, right: bool) -> int:
        """Count a label; its number, which `correct` takes."""
        if self.counted - self._starts[-1] == self._renew:
            self._starts = [*self._starts[-1:], self.counted]
            self._wins = [*self._wins[-1:], 0]
        self._wins = [wins + right for wins in self._wins]
        self.counted += 1
        return self.counted - 1

    def correct(self, number: int, right: bool) -> None:
        """A label that was counted is the other one."""
        change = 1 if right else -1
        for i, start in enumerate(self._starts):
            if number >= start:
                self._wins[i] += change

    @property
    def wins(self) -> int:
        """Right answers among `labels`."""
        return self._wins[0]

    @property
    def labels(self) -> int:
        """Labels that the bounds are of."""
        return self.counted - self._starts[0]

    def bounds(self, alpha: float) -> tuple[float, float]:
        """Lower and upper, each one-sided at alpha / 2; 0 and 1 before the first label."""
        return (
            lower_bound(self.wins, self.labels, alpha / 2.0),
            upper_bound(self.wins, self.labels, alpha / 2.0),
        )

    def state(self) -> list[int]:
        """What `restore` needs."""
        return [self.counted, *self._starts, *self._wins]

    def restore(self, state: list[int]) -> None:
        """Raises ValueError where it is no state of this."""
        counted, rest = state[0], state[1:]
        half = len(rest) // 2
        starts, wins = rest[:half], rest[half:]
        if (
            half not in (1, 2)
            or len(wins) != half
            or not all(0 <= w <= counted - s for s, w in zip(starts, wins, strict=True))
        ):
            raise ValueError(f"counts of labels that do not fit: {state}")
        self.counted, self._starts, self._wins = counted, starts, wins

"""Does live traffic come in longer bursts than the reference did? Then its promise does not cover
it, and an alarm may be the burst's.

A row of the kind of the row just before speaks for bursts, one of the kind of a row far back
against: more of a class alone moves both. e = 1 + b (near - far - excess), an e-process like those
of the detector; `excess` is the reference's own, with a margin.
"""

import math

import numpy as np
from numpy.typing import NDArray

from monitor.eprocess import EVIDENCE_CAP
from monitor.witness import LAG

BETS = (0.1, 0.4)
MEMBERS = len(BETS)
MARGIN_DEVIATIONS = 3.0


def reference_excess(kinds: NDArray[np.intp]) -> float:
    """How much oftener a reference row shares its kind with the row before than with the row LAG
    before, at least 0, and a margin for its error."""
    rows = len(kinds) - LAG
    if rows < 2:
        return 1.0
    near, far = kinds[LAG:] == kinds[LAG - 1 : -1], kinds[LAG:] == kinds[:-LAG]
    difference = near.astype(np.float64) - far
    margin = MARGIN_DEVIATIONS * float(difference.std()) / math.sqrt(rows)
    return min(1.0, max(0.0, float(difference.mean())) + margin)


def earned(near: bool, far: bool, excess: float) -> list[float]:
    """What every member earns. Plain floats: of two members numpy makes ten times the work."""
    gain = near - far - excess
    return [max(0.0, 1.0 + bet * gain) for bet in BETS]


def take(evidence: list[float], near: bool, far: bool, excess: float) -> None:
    """One row, in place."""
    for member, bet in enumerate(earned(near, far, excess)):
        evidence[member] = min((evidence[member] + 1.0) * bet, EVIDENCE_CAP)

"""The novelty and the confidence part: how often a score lies in the upper tail of the reference.

e = 1 + b (1{s > T_q} / rate_q - 1) for tail shares q and bets b. The margin on the rates keeps the
error of a finite reference from counting as drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

SHARES = (0.01, 0.05, 0.2)
BETS = (0.02, 0.1, 0.3)
MEMBERS = len(SHARES) * len(BETS)
# Of a reference that understates a rate the evidence grows without drift, whatever the threshold.
# Three deviations make such references rare; two needed thresholds 2 nats higher (528 rows).
MARGIN_DEVIATIONS = 3.0
_BETS = np.array(BETS, dtype=np.float32)


@dataclass(frozen=True)
class Tails:
    """Upper tails of the reference scores, both (..., shares).

    `thresholds` are the (1 - share) quantiles, falling from the rarest share to the commonest;
    `rates` bound from above how often a row without drift exceeds them.
    """

    thresholds: Floats
    rates: Floats


def fit_tails(scores: Floats, design_effect: float | Floats = 1.0) -> Tails:
    """Tails of reference scores (..., rows). Rows that depend on one another count for fewer, by
    the `design_effect`, a number or (..., 1)."""
    rows = scores.shape[-1]
    quantiles = np.quantile(scores, [1.0 - share for share in SHARES], axis=-1)
    thresholds = np.moveaxis(quantiles, 0, -1)
    above = np.sum(scores[..., None, :] > thresholds[..., None], axis=-1)
    # No row above a threshold (ties at the top) must not mean that one is infinite evidence.
    observed = np.maximum(above, 1) / rows
    deviation = np.sqrt(observed * (1.0 - observed) * design_effect / rows)
    return Tails(thresholds, np.minimum(observed + MARGIN_DEVIATIONS * deviation, 1.0))


def payoffs(exceeded: NDArray[np.bool_], rates: Floats) -> Floats:
    """What every member earns: (shares, ...) each -> (members, ...)."""
    gain = exceeded / rates
    gain -= 1.0
    earned: Floats = gain[:, None] * _BETS.reshape(-1, *[1] * (gain.ndim - 1))
    earned += 1.0
    return earned.reshape(MEMBERS, *gain.shape[1:])

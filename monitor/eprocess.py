"""The e-processes of the drift detector: pure functions over plain arrays.

Every array may carry leading axes (one per simulated stream), so that the code which calibrates
a threshold on many streams is the code which watches the live one. A part (novelty, confidence)
has one member per pair of tail share and bet.

Sources: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection" (2022) for the Shiryaev-Roberts form; the margin on the tail rates keeps the error of
a finite reference from counting as drift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PARTS = ("novelty", "confidence")
TAIL_SHARES = (0.01, 0.05, 0.2)
BETS = (0.02, 0.1, 0.3)
MEMBERS = len(TAIL_SHARES) * len(BETS)
LEVELS = len(TAIL_SHARES) + 1
# Of a reference that understates a rate the evidence grows without drift, whatever the threshold.
# Three deviations make such references rare; two needed thresholds 2 nats higher (528 rows).
MARGIN_DEVIATIONS = 3.0
# Evidence far above any threshold says nothing more; without a cap it would overflow.
EVIDENCE_CAP = 1e30


@dataclass(frozen=True)
class Tails:
    """Upper tails of the reference scores, both (..., parts, shares).

    `thresholds` are the (1 - share) quantiles, falling from the rarest share to the commonest;
    `rates` bound from above how often a row without drift exceeds them.
    """

    thresholds: Floats
    rates: Floats


def fit_tails(scores: Floats) -> Tails:
    """Tails of reference scores (..., parts, rows)."""
    rows = scores.shape[-1]
    quantiles = np.quantile(scores, [1.0 - share for share in TAIL_SHARES], axis=-1)
    thresholds = np.moveaxis(quantiles, 0, -1)
    above = np.sum(scores[..., None, :] > thresholds[..., None], axis=-1)
    # No row above a threshold (ties at the top) must not mean that one is infinite evidence.
    observed = np.maximum(above, 1) / rows
    deviation = np.sqrt(observed * (1.0 - observed) / rows)
    return Tails(thresholds, observed + MARGIN_DEVIATIONS * deviation)


def tail_levels(scores: Floats, thresholds: Floats) -> NDArray[np.uint8]:
    """How many thresholds each score exceeds: (..., parts) against (..., parts, shares)."""
    levels: NDArray[np.uint8] = (scores[..., None] > thresholds).sum(axis=-1, dtype=np.uint8)
    return levels


def payoffs(rates: Floats) -> Floats:
    """What every member earns at every level.

    rates (..., parts, shares) -> (..., parts, levels, members);
    e = 1 + b (1{s > T_q} / rate_q - 1), whose mean without drift is at most 1.
    """
    shares = np.arange(len(TAIL_SHARES))
    # The rarest share comes first and needs the highest level.
    exceeded = np.arange(LEVELS)[:, None] >= LEVELS - 1 - shares
    gain = exceeded / rates[..., None, :] - 1.0
    table = 1.0 + gain[..., None] * np.array(BETS)
    members: Floats = table.reshape(*table.shape[:-2], MEMBERS)
    return members


def advance(evidence: Floats, earned: Floats) -> None:
    """One row, in place: M <- min((M + 1) e, cap) for every member."""
    evidence += 1.0
    evidence *= earned
    np.minimum(evidence, EVIDENCE_CAP, out=evidence)


def run_streams(tables: Floats, levels: NDArray[np.uint8], evidence: Floats) -> Floats:
    """Log evidence of many streams over time; `evidence` goes on from where it stands, in place.

    tables (streams, parts, levels, members), levels (time, streams, parts), evidence (streams,
    parts, members) -> (time, streams).
    """
    streams, parts = tables.shape[:2]
    flat = tables.reshape(-1, MEMBERS)
    first = np.arange(streams * parts).reshape(streams, parts) * LEVELS
    earned = np.empty_like(evidence)
    members = evidence.reshape(streams, -1)
    weights = np.full(members.shape[1], 1.0 / members.shape[1])
    means = np.empty((len(levels), streams))
    for at, row in enumerate(levels):
        np.take(flat, first + row, axis=0, out=earned, mode="clip")
        advance(evidence, earned)
        np.dot(members, weights, out=means[at])
    return np.log(means)

"""The four parts of the drift detector and how their evidence is put together: pure functions over
plain arrays.

The first axis of every array is the members of a part; all further axes are streams, none for the
live one, so that the code which calibrates a threshold on many streams is the code which watches
the live one. Every member is a Shiryaev-Roberts e-process, M <- (M + 1) e, with a bet e whose mean
without drift is at most 1.

Source: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change
detection" (2022): a mean of e-detectors is an e-detector.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from monitor import class_mix, tails, witness

Floats = NDArray[np.floating]

MEMBERS = {
    "witness": witness.MEMBERS,
    "novelty": tails.MEMBERS,
    "confidence": tails.MEMBERS,
    "class_mix": class_mix.MEMBERS,
}
# Of one class the confidence is always 1 and the mix never changes.
ONE_CLASS_PARTS = ("witness", "novelty")
# Evidence far above any threshold says nothing more; without a cap it would overflow.
EVIDENCE_CAP = 1e30


def parts_of(classes: int) -> tuple[str, ...]:
    """The parts that watch a model of so many classes, in the order of their members."""
    return ONE_CLASS_PARTS if classes == 1 else tuple(MEMBERS)


def member_weights(parts: Sequence[str]) -> NDArray[np.float64]:
    """(members,): every part counts alike, and within a part every member."""
    shares = [np.full(MEMBERS[part], 1.0 / MEMBERS[part]) for part in parts]
    weights: NDArray[np.float64] = np.concatenate(shares) / len(parts)
    return weights


def member_powers(parts: Sequence[str], design_effects: Sequence[float]) -> NDArray[np.float64]:
    """(members,): the power to which each member's bet is taken, 1 where rows are independent.

    Where neighbours depend on one another a sum of v rows varies as much as if each row were
    counted v times. A bet to the power 1/v counts it once; its mean without drift is still at most
    1 (Jensen).
    """
    pairs = zip(parts, design_effects, strict=True)
    return np.concatenate([np.full(MEMBERS[part], 1.0 / effect) for part, effect in pairs])


def advance(evidence: Floats, earned: Floats) -> None:
    """One row, in place: M <- min((M + 1) e, cap) for every member; both (members, ...)."""
    evidence += 1.0
    evidence *= earned
    np.minimum(evidence, EVIDENCE_CAP, out=evidence)

"""Many streams at once through what one fitted detector knows: its run lengths and delays in
seconds instead of hours. A test compares it with the detector itself, row by row.
"""

import numpy as np
from numpy.typing import NDArray

from monitor import class_mix, tails, witness
from monitor.eprocess import member_powers
from monitor.fit import Fitted
from monitor.geometry import normalise, novelty
from monitor.simulate import Known, Rows, Streams, highest_evidence
from monitor.witness import LAG
from tests import clouds


def scored(fitted: Fitted, rows: clouds.Rows) -> Rows:
    """Live rows as the detector sees them."""
    embeddings, probabilities = rows
    unit = normalise(embeddings)
    scores = np.stack([novelty(unit, fitted.centroids), -probabilities.max(axis=1)])
    return Rows(
        parts=fitted.parts,
        whitened=witness.whiten(unit, fitted.whitening),
        scores=scores[: len(fitted.tails.thresholds)],
        kinds=fitted.kind_of_class[probabilities.argmax(axis=1)],
        kind_count=len(fitted.kind_counts),
    )


def known(fitted: Fitted) -> Known:
    """The one reference of a fitted detector."""
    effects = dict(zip(fitted.parts, fitted.design_effects, strict=True))
    components = len(fitted.whitening.projection)
    return Known(
        means=np.zeros((1, components), dtype=np.float32),
        tails=tuple(
            tails.Tails(thresholds[None], rates[None])
            for thresholds, rates in zip(fitted.tails.thresholds, fitted.tails.rates, strict=True)
        ),
        ratios=class_mix.ratios(fitted.kind_counts)[None],
        margin=witness.margins(components, fitted.rows / effects["witness"]),
        discount=class_mix.discounts(
            len(fitted.kind_counts), fitted.rows / effects.get("class_mix", 1.0)
        ),
    )


def highest(fitted: Fitted, rows: clouds.Rows, drawn: NDArray[np.integer]) -> NDArray[np.float32]:
    """Highest log evidence so far, (streams, time), of drawn (time, streams) row numbers."""
    streams = Streams(scored(fitted, rows), known(fitted), np.zeros(drawn.shape[1], dtype=np.intp))
    starts = range(0, len(drawn) - LAG + 1, LAG)
    blocks = (streams.block(drawn[start : start + LAG]) for start in starts)
    powers = member_powers(fitted.parts, fitted.design_effects)
    return highest_evidence(blocks, fitted.parts, powers)

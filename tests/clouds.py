"""Clusters of directions with a classifier that knows all but the last: embeddings and class
probabilities whose true distribution is known, for the drift detector's tests.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.geometry import Vectors

HIDDEN = 16
CLASSES = 8
SHARPNESS = 12.0
SPREAD = 0.15

Rows = tuple[Vectors, NDArray[np.float64]]


def _centres() -> NDArray[np.float64]:
    centres = np.random.default_rng(7).normal(size=(CLASSES + 1, HIDDEN))
    unit: NDArray[np.float64] = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    return unit


CENTRES = _centres()


def draw(
    rows: int,
    rng: np.random.Generator,
    new_share: float = 0.0,
    burst_rows: float = 1.0,
    clusters: int = CLASSES,
) -> Rows:
    """embeddings (rows, HIDDEN) and probabilities (rows, CLASSES); `new_share` of the rows come
    from the cluster that the classifier does not know. The others are of the first `clusters`, in
    bursts of one cluster that are `burst_rows` long on average."""
    begins = rng.random(rows) < 1.0 / burst_rows
    cluster = rng.integers(clusters, size=rows)[np.cumsum(begins) - begins[0]]
    cluster = np.where(rng.random(rows) < new_share, CLASSES, cluster)
    # A gamma-distributed spread gives the scores the heavy tail that real texts have.
    noise = rng.normal(size=(rows, HIDDEN)) * rng.gamma(2.0, SPREAD, size=(rows, 1))
    embeddings = CENTRES[cluster] + noise
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    odds = np.exp(SHARPNESS * (unit @ CENTRES[:CLASSES].T))
    return embeddings.astype(np.float32), odds / odds.sum(axis=1, keepdims=True)


def reference(rows: int = 528, seed: int = 0, burst_rows: float = 1.0) -> Rows:
    """Rows without the new cluster."""
    return draw(rows, np.random.default_rng([seed, 11]), burst_rows=burst_rows)

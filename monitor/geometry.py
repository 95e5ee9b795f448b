"""Where the reference lies in the embedding space: spherical k-means centroids, and how far a row
is from the nearest of them (its novelty).

Source: Dhillon and Modha, "Concept decompositions for large sparse text data using clustering"
(2001). Seeded: the same rows give the same centroids.
"""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

MOST_CENTROIDS = 128
ROWS_PER_CENTROID = 8
FOLDS = 5
ITERATIONS = 25
SMALLEST_NORM = 1e-12


def normalise(rows: Vectors) -> Vectors:
    """Rows (n, d) to unit length; a zero row stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Vectors = rows / np.maximum(norms, SMALLEST_NORM).astype(np.float32)
    return unit


def centroid_count(rows: int) -> int:
    """How many centroids a reference of so many rows gets."""
    return max(1, min(MOST_CENTROIDS, rows // ROWS_PER_CENTROID))


def spherical_kmeans(unit: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Centroids (count, d) of unit length for unit rows (n, d), n >= count."""
    centroids = unit[rng.choice(len(unit), size=count, replace=False)]
    before = None
    for _ in range(ITERATIONS):
        similarity = unit @ centroids.T
        nearest = similarity.argmax(axis=1)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        centroids = _means(unit, nearest, similarity.max(axis=1), count)
    return centroids


def _means(unit: Vectors, nearest: NDArray[np.intp], similarity: Vectors, count: int) -> Vectors:
    """Normalised means; an empty cluster moves to one of the rows that are served worst."""
    sums = np.zeros((count, unit.shape[1]), dtype=np.float32)
    np.add.at(sums, nearest, unit)
    empty = np.flatnonzero(np.bincount(nearest, minlength=count) == 0)
    sums[empty] = unit[np.argsort(similarity, kind="stable")[: len(empty)]]
    return normalise(sums)


def novelty(unit: Vectors, centroids: Vectors) -> NDArray[np.float64]:
    """1 - cosine to the nearest centroid, in [0, 2]: unit rows (n, d) -> (n,)."""
    nearest: NDArray[np.float64] = 1.0 - (unit @ centroids.T).max(axis=1).astype(np.float64)
    return nearest


def cross_fitted_novelty(unit: Vectors, count: int, seed: int) -> NDArray[np.float64]:
    """Novelty of each row against centroids of the other folds, as a live row would get it: a
    row that took part in its own centroid looks too familiar."""
    rows = len(unit)
    rng = np.random.default_rng([seed, 1])
    fold = rng.permutation(rows) % min(FOLDS, rows)
    scores = np.empty(rows)
    for held_out in range(min(FOLDS, rows)):
        others = unit[fold != held_out]
        centroids = spherical_kmeans(others, min(count, len(others)), rng)
        scores[fold == held_out] = novelty(unit[fold == held_out], centroids)
    return scores

"""Stored rows as the drift detector sees them, many at once (monitor.rehearsal)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from monitor.fit import Fitted
from monitor.geometry import SMALLEST_NORM, Vectors

Floats = NDArray[np.float64]
Kinds = NDArray[np.intp]


@dataclass(frozen=True)
class RowScores:
    """Rows as the detector sees them: whitened (n, components), which tail thresholds they exceed
    (tail parts, shares, n), kinds (n,)."""

    z: Vectors
    exceeded: NDArray[np.bool_]
    kinds: Kinds

    def part(self, start: int, stop: int) -> "RowScores":
        """The rows [start, stop)."""
        return RowScores(self.z[start:stop], self.exceeded[..., start:stop], self.kinds[start:stop])


def check_rows(embeddings: Vectors, probabilities: Floats, fitted: Fitted) -> None:
    """Raises DatasetError where rows have another length than the reference's."""
    hidden, classes = fitted.centroids.shape[1], len(fitted.kind_of_class)
    if embeddings.ndim != 2 or embeddings.shape[1] != hidden:
        raise DatasetError(
            f"embeddings of shape {embeddings.shape} do not fit a reference of {hidden} numbers "
            "per row; they must be this bundle's model's own"
        )
    if probabilities.shape != (len(embeddings), classes):
        raise DatasetError(
            f"probabilities of shape {probabilities.shape} do not fit {len(embeddings)} rows of a "
            f"reference of {classes} classes; they must be this bundle's model's own"
        )


def score_rows(embeddings: Vectors, probabilities: Floats, fitted: Fitted) -> RowScores:
    """Finite rows: embeddings (n, hidden), probabilities (n, classes)."""
    norms = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings).astype(np.float64))
    unit = embeddings / np.maximum(norms, SMALLEST_NORM).astype(np.float32)[:, None]
    projection, thresholds = fitted.whitening.projection, fitted.tails.thresholds
    both = np.concatenate([projection, fitted.centroids])
    seen = unit @ both.T
    best = seen[:, len(projection) :].max(axis=1, initial=-np.inf).astype(np.float64)
    # Twice what two sums of so many products can differ by, each rounded in any order.
    slack = 4.0 * embeddings.shape[1] * float(np.finfo(np.float32).eps)
    for row in np.flatnonzero((np.abs(1.0 - best[:, None] - thresholds[0]) <= slack).any(axis=1)):
        seen[row] = _alone(embeddings[row], both)
        best[row] = float(seen[row, len(projection) :].max())
    scores = np.stack([1.0 - best, -probabilities.max(axis=1)])[: len(thresholds)]
    one_class = len(fitted.kind_of_class) == 1
    kinds = (
        seen[:, len(projection) :].argmax(axis=1)
        if one_class
        else fitted.kind_of_class[probabilities.argmax(axis=1)]
    )
    return RowScores(
        z=seen[:, : len(projection)] - projection @ fitted.whitening.mean,
        exceeded=scores[:, None] > thresholds[..., None],
        kinds=kinds.astype(np.intp),
    )


def _alone(embedding: NDArray[np.float32], both: Vectors) -> Vectors:
    """As the detector does it, to the last bit."""
    norm = math.sqrt(float(embedding @ embedding))
    placed: Vectors = both @ (embedding / np.float32(max(norm, SMALLEST_NORM)))
    return placed

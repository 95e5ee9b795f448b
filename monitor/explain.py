"""What an alarm says: which words, n-grams, classes and features the recent rows have that the
reference has not, and which reference rows they are most like."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.records import FeatureMovement, Movement
from monitor.family import Cluster
from monitor.geometry import Vectors
from monitor.reference import ReferenceData
from monitor.secondary import CLASS_MIX, LEVELS, Scale, level_of
from monitor.words import (
    RecentRow,
    moved_classes,
    risen_ngrams,
    risen_words,
)

MOST_CLUSTERS = 2


@dataclass(frozen=True)
class Moved:
    """The part of a verdict that is about content."""

    words: tuple[Movement, ...]
    ngrams: tuple[Movement, ...]
    classes: tuple[Movement, ...]
    features: tuple[FeatureMovement, ...]
    reference_rows: tuple[str, ...]


def what_moved(
    recent: Sequence[RecentRow], reference: ReferenceData, ratios: Mapping[str, float]
) -> Moved:
    """Recent rows against the reference; `ratios`: each detector's evidence over its threshold."""
    rows, known = len(recent), reference.fitted.rows
    words = Counter(word for row in recent for word in row.words)
    ngrams = Counter(ngram for row in recent for ngram in row.ngrams)
    classes = Counter(row.predicted for row in recent)
    return Moved(
        words=risen_words(words, rows, reference.words, known),
        ngrams=risen_ngrams(ngrams, rows, reference.family.ngrams, known),
        classes=moved_classes(classes, rows, reference.class_counts, reference.labels),
        features=_moved_features(recent, reference.family.scales, ratios),
        reference_rows=_reference_rows(recent, reference.family.clusters),
    )


def _moved_features(
    recent: Sequence[RecentRow], scales: Sequence[Scale], ratios: Mapping[str, float]
) -> tuple[FeatureMovement, ...]:
    """Those with most evidence first; none that no recent row has."""
    found = []
    for at, scale in enumerate(scales):
        values = [row.features[at] for row in recent if not math.isnan(row.features[at])]
        if values and scale.name != CLASS_MIX:
            found.append(
                FeatureMovement(
                    name=scale.name,
                    reference_median=scale.median,
                    recent_median=float(np.median(values)),
                    distance=distance([row.features[at] for row in recent], scale),
                    evidence_ratio=ratios[scale.name],
                )
            )
    return tuple(sorted(found, key=lambda own: (-own.evidence_ratio, own.name)))


def distance(values: Sequence[float], scale: Scale) -> float:
    """Kolmogorov's between recent values and the reference's, 0 to 1: at least that share of the
    traffic has changed, but for noise of about 1 / sqrt(rows)."""
    levels = [level_of(scale, value) for value in values]
    gap = np.bincount(levels, minlength=LEVELS) / len(values)
    gap -= np.array(scale.counts) / sum(scale.counts)
    return float(np.abs(np.cumsum(gap)).max())


def nearest_centroid(centroids: Vectors, embedding: NDArray[np.float32]) -> int:
    """The number of the centroid (count, hidden) with the largest cosine to an embedding."""
    return int((centroids @ embedding).argmax())


def _reference_rows(recent: Sequence[RecentRow], clusters: Sequence[Cluster]) -> tuple[str, ...]:
    """The ids of reference rows in the clusters with most recent rows above the expected number;
    of a new topic those are the ones that it lies nearest to."""
    expected = len(recent) / sum(cluster.rows for cluster in clusters)
    surplus = {
        at: count - expected * clusters[at].rows
        for at, count in Counter(row.cluster for row in recent).items()
    }
    first = sorted(surplus, key=lambda at: (-surplus[at], at))[:MOST_CLUSTERS]
    return tuple(name for at in first if surplus[at] > 0.0 for name in clusters[at].row_ids)

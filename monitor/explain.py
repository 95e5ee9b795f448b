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
    RECENT_ROWS,
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
                    evidence_ratio=ratios[scale.name],
                )
            )
    return tuple(sorted(found, key=lambda own: (-own.evidence_ratio, own.name)))


def effect_size(recent: Sequence[RecentRow], scales: Sequence[Scale]) -> float:
    """The largest distance of any feature between the recent rows and the reference, 0 to 1:
    Kolmogorov's of the values, total variation of the classes. Of the last RECENT_ROWS rows it is
    about 0.1 without drift; at least so much of the traffic has changed as it is above that."""
    if len(recent) < RECENT_ROWS:
        return 0.0
    distances = []
    for at, scale in enumerate(scales):
        levels = [level_of(scale, row.features[at]) for row in recent]
        gap = np.bincount(levels, minlength=LEVELS) / len(recent)
        gap -= np.array(scale.counts) / sum(scale.counts)
        apart = np.abs(gap).sum() / 2.0 if scale.classes else np.abs(np.cumsum(gap)).max()
        distances.append(float(apart))
    return max(distances)


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

"""What an alarm says of recent rows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from monitor.explain import (
    MOST_CLUSTERS,
    _moved_features,
    _reference_rows,
    distance,
    nearest_centroid,
)
from monitor.family import Cluster
from monitor.secondary import fit_classes, fit_scale
from monitor.words import RecentRow

PLAIN = RecentRow(frozenset(), frozenset(), 0, 0, (0.5, 0.0))
LENGTH = fit_scale("length", np.random.default_rng(0).random(1_000))
CLASSES = fit_classes(np.arange(1_000) % 2, 2)


def test_without_drift_the_distance_is_noise() -> None:
    assert distance(np.random.default_rng(1).random(200).tolist(), LENGTH) < 0.12


def test_the_distance_is_the_share_of_traffic_that_changed() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random(500) < 0.4, 9.0, rng.random(500))
    assert distance(values.tolist(), LENGTH) == pytest.approx(0.4, abs=0.08)
    constant = fit_scale("unknown", np.zeros(100))
    assert distance([0.0, 0.0, 0.3, 0.0], constant) == 0.25, "the medians are equal"
    assert distance([math.nan, 0.0], constant) == 0.5


def test_features_are_ranked_by_evidence_with_medians_then_and_now() -> None:
    other = fit_scale("other", np.arange(11.0))
    recent = [replace(PLAIN, features=(v, 7.0)) for v in (0.1, 0.2, 0.9, math.nan)]
    first, second = _moved_features(recent, (LENGTH, other), {"length": 0.3, "other": 1.2})
    assert (first.name, first.reference_median, first.recent_median) == ("other", 5.0, 7.0)
    assert (second.name, second.recent_median) == ("length", 0.2)
    absent = [replace(PLAIN, features=(math.nan, 1.0))]
    assert [f.name for f in _moved_features(absent, (LENGTH, other), {"other": 0.0})] == ["other"]
    assert _moved_features([PLAIN], (LENGTH, CLASSES), {"length": 0.0})[0].name == "length"


def test_the_nearest_centroid_has_the_largest_cosine() -> None:
    centroids = np.eye(3, dtype=np.float32)
    assert nearest_centroid(centroids, np.array([0.1, 5.0, 1.0], dtype=np.float32)) == 1


def test_reference_rows_are_those_of_the_clusters_that_rose_most() -> None:
    clusters = (Cluster(50, ("a", "b")), Cluster(40, ("c",)), Cluster(10, ("d", "e")))
    recent = [replace(PLAIN, cluster=at) for at in [2] * 6 + [1] * 5 + [0] * 2]
    assert _reference_rows(recent, clusters) == ("d", "e")
    recent = [replace(PLAIN, cluster=at) for at in [2] * 6 + [1] * 7]
    assert _reference_rows(recent, clusters) == ("d", "e", "c")
    assert MOST_CLUSTERS == 2

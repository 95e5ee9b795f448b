"""What an alarm says of recent rows."""

import math
from dataclasses import replace

import numpy as np
import pytest

from monitor.explain import (
    MOST_CLUSTERS,
    _moved_features,
    _reference_rows,
    effect_size,
    nearest_centroid,
)
from monitor.family import Cluster
from monitor.secondary import fit_classes, fit_scale
from monitor.words import RECENT_ROWS, RecentRow

PLAIN = RecentRow(frozenset(), frozenset(), 0, 0, (0.5, 0.0))
LENGTH = fit_scale("length", np.random.default_rng(0).random(1_000))
CLASSES = fit_classes(np.arange(1_000) % 2, 2)
SCALES = (LENGTH, CLASSES)


def rows(values: np.ndarray, predicted: np.ndarray) -> list[RecentRow]:
    return [
        replace(PLAIN, features=(float(v), float(p)))
        for v, p in zip(values, predicted, strict=True)
    ]


def test_without_drift_the_effect_is_noise() -> None:
    rng = np.random.default_rng(1)
    recent = rows(rng.random(RECENT_ROWS), rng.integers(2, size=RECENT_ROWS))
    assert effect_size(recent, SCALES) < 0.15


def test_the_effect_is_the_share_of_traffic_that_changed() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random(RECENT_ROWS) < 0.4, 9.0, rng.random(RECENT_ROWS))
    recent = rows(values, rng.integers(2, size=RECENT_ROWS))
    assert effect_size(recent, SCALES) == pytest.approx(0.4, abs=0.1)
    one_class = rows(rng.random(RECENT_ROWS), np.zeros(RECENT_ROWS))
    assert effect_size(one_class, SCALES) == pytest.approx(0.5, abs=0.02)


def test_few_rows_have_no_effect_size() -> None:
    assert effect_size([PLAIN] * (RECENT_ROWS - 1), SCALES) == 0.0


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

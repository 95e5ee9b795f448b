"""Spherical k-means and the novelty scores."""

import numpy as np
import pytest

from monitor.geometry import (
    centroid_count,
    cross_fitted_novelty,
    normalise,
    novelty,
    spherical_kmeans,
)
from tests import clouds


def unit_rows(rows: int, seed: int = 0) -> np.ndarray:
    return normalise(clouds.reference(rows, seed)[0])


@pytest.mark.parametrize(("rows", "count"), [(2, 1), (16, 2), (528, 66), (8000, 128)])
def test_centroids_grow_with_the_rows_up_to_a_limit(rows: int, count: int) -> None:
    assert centroid_count(rows) == count


def test_centroids_have_unit_length_and_depend_on_rows_and_seed_only() -> None:
    rows = unit_rows(200)
    first = spherical_kmeans(rows, 20, np.random.default_rng(3))
    again = spherical_kmeans(rows, 20, np.random.default_rng(3))
    assert first.dtype == np.float32
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert (first == again).all()


def test_clusters_that_lie_apart_are_found() -> None:
    rng = np.random.default_rng(0)
    corners = np.eye(4, 8, dtype=np.float32)
    rows = normalise(np.repeat(corners, 30, axis=0) + rng.normal(0, 0.02, (120, 8)).astype("f4"))
    found = spherical_kmeans(rows, 12, rng)
    assert (found @ corners.T).max(axis=0) == pytest.approx(np.ones(4), abs=0.01)


def test_rows_that_are_all_alike_need_no_second_centroid() -> None:
    rows = np.tile(np.array([[1.0, 0.0]], dtype=np.float32), (40, 1))
    found = spherical_kmeans(rows, 5, np.random.default_rng(0))
    assert np.isfinite(found).all()
    assert novelty(rows, found) == pytest.approx(np.zeros(40))


def test_a_zero_row_is_novel_and_not_an_error() -> None:
    rows = normalise(np.zeros((1, 4), dtype=np.float32))
    assert novelty(rows, np.eye(4, dtype=np.float32)) == pytest.approx([1.0])


def test_cross_fitting_scores_a_row_as_a_fresh_row_would_be() -> None:
    rows, fresh = unit_rows(528), unit_rows(4000, seed=1)
    centroids = spherical_kmeans(rows, 66, np.random.default_rng(0))
    naive, live = novelty(rows, centroids).mean(), novelty(fresh, centroids).mean()
    fitted = cross_fitted_novelty(rows, 66, seed=0).mean()
    assert abs(fitted - live) < 0.35 * (live - naive)


def test_two_rows_are_enough() -> None:
    scores = cross_fitted_novelty(unit_rows(2), 1, seed=0)
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()

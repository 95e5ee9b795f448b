"""Whether neighbouring rows hang together, how far, and what that costs."""

import numpy as np
import pytest

from monitor.dependence import (
    FEWEST_BLOCK_ROWS,
    block_rows,
    burst_rows,
    measure_dependence,
    neighbours_agree_p,
)
from monitor.eprocess import parts_of
from monitor.geometry import cross_fitted_novelty, normalise
from monitor.simulate import Rows
from monitor.witness import fit_whitening, whiten
from tests import clouds


def kinds_in_bursts(rows: int, burst: float, seed: int = 0, kinds: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    begins = rng.random(rows) < 1.0 / burst
    found: np.ndarray = rng.integers(kinds, size=rows)[np.cumsum(begins) - begins[0]]
    return found


def rows_in_bursts(rows: int, burst: float) -> Rows:
    embeddings, probabilities = clouds.reference(rows, 0, burst)
    unit = normalise(embeddings)
    scores = np.stack([cross_fitted_novelty(unit, 64, 0), -probabilities.max(axis=1)])
    whitened = whiten(unit, fit_whitening(unit))
    return Rows(parts_of(8), whitened, scores, probabilities.argmax(axis=1), 8)


def test_neighbours_of_one_class_are_noticed() -> None:
    assert neighbours_agree_p(kinds_in_bursts(500, 1.5), seed=0) <= 0.01


def test_clients_that_alternate_are_noticed() -> None:
    one, two = kinds_in_bursts(250, 4.0, 1), kinds_in_bursts(250, 4.0, 2)
    alternating = np.stack([one, two], axis=1).ravel()
    assert neighbours_agree_p(alternating, seed=0) <= 0.01


def test_independent_neighbours_are_suspected_as_seldom_as_stated() -> None:
    rng = np.random.default_rng(0)
    found = [neighbours_agree_p(rng.integers(8, size=120), seed) for seed in range(100)]
    # A level of 1 %: four or more of 100 would have a probability of 2 %.
    assert sum(p <= 0.01 for p in found) <= 3


def test_one_class_only_is_no_dependence() -> None:
    assert neighbours_agree_p(np.zeros(50, dtype=np.intp), seed=0) == 1.0
    assert burst_rows(np.zeros(50, dtype=np.intp)) == 1.0


@pytest.mark.parametrize("burst", [1.0, 1.25, 2.0, 5.0])
def test_the_mean_burst_is_measured(burst: float) -> None:
    found = [burst_rows(kinds_in_bursts(2000, burst, seed)) for seed in range(20)]
    assert np.mean(found) == pytest.approx(burst, rel=0.1)


def test_blocks_hold_many_bursts() -> None:
    assert block_rows(1.0) == FEWEST_BLOCK_ROWS
    assert block_rows(4.0) == 32


def test_independent_rows_count_whole_and_bursts_for_fewer() -> None:
    alone = measure_dependence(rows_in_bursts(800, 1.0), 1.0, seed=0)
    assert max(alone.design_effects) < 1.25
    burst = measure_dependence(rows_in_bursts(1500, 2.0), 2.0, seed=0)
    # Bursts of geometric length 2 make sums of a cluster's mark vary 2 * 2 - 1 times as much.
    witness, *_, mix = burst.design_effects
    # Of the directions in which rows are whitened only some carry the cluster.
    assert 1.4 < witness < 4.5
    assert 2.0 < mix < 4.5
    assert burst.block_rows == FEWEST_BLOCK_ROWS
    assert burst.name == f"blocks-{FEWEST_BLOCK_ROWS}"

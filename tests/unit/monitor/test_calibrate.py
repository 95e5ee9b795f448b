"""The simulated threshold, and the test for rows that depend on one another."""

import numpy as np
import pytest

from monitor.calibrate import (
    LONGEST_SIMULATED,
    REFERENCES,
    STREAMS_PER_REFERENCE,
    calibrate,
    exposure,
    neighbours_agree_p,
    simulate,
    solve_threshold,
)
from monitor.geometry import cross_fitted_novelty, normalise
from tests import clouds


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    embeddings, probabilities = clouds.reference()
    unit = normalise(embeddings)
    return np.stack([cross_fitted_novelty(unit, 66, 0), -probabilities.max(axis=1)])


def test_exposure_counts_rows_up_to_and_with_the_first_alarm() -> None:
    highest = np.array([[[0.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 1.0]]])
    rows, alarms = exposure(highest, threshold=2.0)
    assert (rows.tolist(), alarms.tolist()) == ([3 + 4], [1])


def test_all_references_but_a_tenth_run_as_long_as_asked(scores: np.ndarray) -> None:
    highest = simulate(scores, 400, np.random.default_rng(0))
    assert highest.shape == (REFERENCES, STREAMS_PER_REFERENCE, 400)
    threshold = solve_threshold(highest, 200)
    rows, alarms = exposure(highest, threshold)
    assert np.mean(rows < 200 * alarms) <= 0.1
    rows, alarms = exposure(highest, threshold - 0.05)
    assert np.mean(rows < 200 * alarms) > 0.1


def test_a_longer_promise_needs_a_higher_threshold(scores: np.ndarray) -> None:
    found = [calibrate(scores, target, seed=0).threshold for target in (100, 400, 1600)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_the_promise_is_checked_on_streams_of_its_own(scores: np.ndarray) -> None:
    found = calibrate(scores, 300, seed=0)
    assert not found.extrapolated
    assert found.alarms > 0
    assert found.run_length == found.simulated_rows / found.alarms
    assert found.run_length > 300


def test_a_very_long_promise_is_extrapolated_and_says_so(
    scores: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = calibrate(scores, 2000, seed=0)
    assert LONGEST_SIMULATED >= 2000
    monkeypatch.setattr("monitor.calibrate.LONGEST_SIMULATED", 500)
    shorter, longer = calibrate(scores, 500, seed=0), calibrate(scores, 2000, seed=0)
    assert (shorter.extrapolated, longer.extrapolated) == (False, True)
    assert longer.threshold >= shorter.threshold + np.log(4.0) - 1e-9
    assert longer.threshold > direct.threshold - 0.5


def test_the_same_seed_gives_the_same_threshold(scores: np.ndarray) -> None:
    assert calibrate(scores, 200, seed=5) == calibrate(scores, 200, seed=5)


def test_neighbours_of_one_class_are_noticed() -> None:
    rng = np.random.default_rng(0)
    bursts = np.repeat(rng.integers(8, size=250), 2)
    assert neighbours_agree_p(bursts, seed=0) <= 0.01


def test_independent_neighbours_are_refused_as_seldom_as_stated() -> None:
    rng = np.random.default_rng(0)
    found = [neighbours_agree_p(rng.integers(8, size=120), seed) for seed in range(100)]
    # A level of 1 %: four or more of 100 would have a probability of 2 %.
    assert sum(p <= 0.01 for p in found) <= 3
    assert 0.35 < np.mean(found) < 0.7


def test_one_class_only_is_no_dependence() -> None:
    assert neighbours_agree_p(np.zeros(50, dtype=np.intp), seed=0) == 1.0

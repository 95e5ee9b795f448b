"""The simulated threshold."""

from typing import Any

import numpy as np
import pytest

from monitor.calibrate import (
    LONGEST_SIMULATED,
    REFERENCES,
    STREAMS_PER_REFERENCE,
    calibrate,
    check_thresholds,
    exposure,
    solve_threshold,
)
from monitor.eprocess import parts_of
from monitor.geometry import cross_fitted_novelty, normalise
from monitor.simulate import Dependence, Plan, Rows, draw, independent, simulate
from monitor.witness import fit_whitening, whiten
from tests import clouds

ALONE = independent(parts_of(clouds.CLASSES))


@pytest.fixture(scope="module")
def rows() -> Rows:
    embeddings, probabilities = clouds.reference()
    unit = normalise(embeddings)
    scores = np.stack([cross_fitted_novelty(unit, 66, 0), -probabilities.max(axis=1)])
    whitened = whiten(unit, fit_whitening(unit))
    kinds = probabilities.argmax(axis=1)
    return Rows(parts_of(clouds.CLASSES), whitened, scores, kinds, clouds.CLASSES)


def test_exposure_counts_rows_up_to_and_with_the_first_alarm() -> None:
    highest = np.array([[[0.0, 1.0, 2.0, 2.0], [0.0, 0.0, 0.0, 1.0]]])
    rows, alarms = exposure(highest, threshold=2.0)
    assert (rows.tolist(), alarms.tolist()) == ([3 + 4], [1])


def test_all_references_but_a_tenth_run_as_long_as_asked(rows: Rows) -> None:
    plan = Plan(REFERENCES, STREAMS_PER_REFERENCE, 400)
    highest = simulate(rows, ALONE, plan, np.random.default_rng(0))
    assert highest.shape == (REFERENCES, STREAMS_PER_REFERENCE, 384), "whole blocks"
    threshold = solve_threshold(highest, 200)
    quiet, alarms = exposure(highest, threshold)
    assert np.mean(quiet < 200 * alarms) <= 0.1
    quiet, alarms = exposure(highest, threshold - 0.05)
    assert np.mean(quiet < 200 * alarms) > 0.1


def test_a_longer_promise_needs_a_higher_threshold(rows: Rows) -> None:
    found = [calibrate(rows, ALONE, target, seed=0).threshold for target in (100, 400, 1600)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_the_promise_is_checked_on_streams_of_its_own(rows: Rows) -> None:
    found = calibrate(rows, ALONE, 300, seed=0)
    assert not found.extrapolated
    assert found.alarms > 0
    assert found.run_length == found.simulated_rows / found.alarms
    assert found.run_length > 300


def test_shorter_intervals_get_thresholds_that_keep_them(rows: Rows) -> None:
    found = calibrate(rows, ALONE, 800, seed=0)
    assert [length for length, _ in found.shorter] == [100.0, 200.0, 400.0, 800.0]
    assert found.shorter[-1][1] == found.threshold
    plan = Plan(REFERENCES, STREAMS_PER_REFERENCE, 1_600)
    fresh = simulate(rows, ALONE, plan, np.random.default_rng(9))
    before = 0.0
    for length, threshold in found.shorter:
        assert threshold > before
        before = threshold
        quiet, alarms = (int(counts.sum()) for counts in exposure(fresh, threshold))
        assert quiet / alarms >= length


@pytest.mark.parametrize(
    "damaged", [((0.0, 1.0),), ((2.0, 1.0), (1.0, 2.0)), ((1.0, np.nan),), ((1.0,),)]
)
def test_thresholds_that_cannot_be_are_told(damaged: Any) -> None:
    check_thresholds(())
    check_thresholds(((1.0, 2.0), (2.0, 2.0)))
    with pytest.raises(ValueError, match="thresholds|unpack"):
        check_thresholds(damaged)


def test_a_very_long_promise_is_extrapolated_and_says_so(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = calibrate(rows, ALONE, 2000, seed=0)
    assert LONGEST_SIMULATED >= 2000
    monkeypatch.setattr("monitor.calibrate.LONGEST_SIMULATED", 500)
    shorter, longer = calibrate(rows, ALONE, 500, seed=0), calibrate(rows, ALONE, 2000, seed=0)
    assert (shorter.extrapolated, longer.extrapolated) == (False, True)
    assert longer.threshold >= shorter.threshold + np.log(4.0) - 1e-9
    assert longer.threshold > direct.threshold - 0.5


def test_the_same_seed_gives_the_same_threshold(rows: Rows) -> None:
    assert calibrate(rows, ALONE, 200, seed=5) == calibrate(rows, ALONE, 200, seed=5)


def test_blocks_are_consecutive_rows_and_the_last_is_followed_by_the_first() -> None:
    drawn = draw(10, (12, 50), 4, np.random.default_rng(0))
    assert drawn.shape == (12, 50)
    steps = np.diff(drawn.reshape(3, 4, 50), axis=1)
    assert set(np.unique(steps)) == {1, -9}
    assert set(np.unique(drawn)) == set(range(10))


def test_rows_that_count_for_fewer_need_no_higher_threshold(rows: Rows) -> None:
    alone = calibrate(rows, ALONE, 300, seed=0)
    tempered = calibrate(rows, Dependence(16, (2.0,) * 4), 300, seed=0)
    assert tempered.threshold < alone.threshold + 0.5

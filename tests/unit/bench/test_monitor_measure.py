"""bench.monitor's figures: run lengths, delays and misses of alarms whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.monitor.measure import delay, first_alarms, matching_threshold, rates, run_length


def geometric(mean: float, shape: tuple[int, int], length: int, seed: int = 0) -> np.ndarray:
    """First alarms of streams that alarm at every row with probability 1 / mean."""
    first = np.random.default_rng(seed).geometric(1.0 / mean, size=shape) - 1
    return np.minimum(first, length)


def test_first_alarm_is_the_first_row_at_the_threshold() -> None:
    peaks = np.array([[0.0, 1.0], [2.0, 1.0], [2.0, 1.5]], dtype=np.float32)
    assert first_alarms(peaks, 2.0).tolist() == [1, 3]
    assert first_alarms(peaks, 1.0).tolist() == [1, 0]


@pytest.mark.parametrize("mean", [300.0, 1_000.0, 4_000.0])
def test_run_length_of_cut_streams_is_that_of_whole_ones(mean: float) -> None:
    found = run_length(geometric(mean, (40, 50), 2_000), 2_000)
    assert found.rows_per_alarm == pytest.approx(mean, rel=0.1)
    assert found.references == 40


def test_run_length_without_alarms_is_all_rows() -> None:
    found = run_length(np.full((3, 4), 100), 100)
    assert (found.rows_per_alarm, found.alarms, found.rows) == (1_200.0, 0, 1_200)
    assert found.standard_error is None


def test_standard_error_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        found = run_length(geometric(500.0, (20, 10), 1_000, seed), 1_000)
        assert found.standard_error is not None
        covered += abs(found.rows_per_alarm - 500.0) < 2.0 * found.standard_error
    assert covered >= 180


def test_standard_error_sees_references_that_differ() -> None:
    rng = np.random.default_rng(0)
    alike = rates(np.full(30, 10_000), rng.poisson(10.0, 30))
    unlike = rates(np.full(30, 10_000), rng.poisson(np.tile([2.0, 18.0], 15)))
    assert alike.standard_error is not None
    assert unlike.standard_error is not None
    assert unlike.standard_error > 1.5 * alike.standard_error


def test_worst_tenth_is_what_nine_of_ten_references_reach() -> None:
    rows, alarms = np.full(31, 6_000), np.array([6] * 4 + [2] * 27)
    assert rates(rows, alarms).worst_tenth == pytest.approx(1_000.0)
    alarms[3] = 2
    assert rates(rows, alarms).worst_tenth == pytest.approx(3_000.0)


def test_worst_tenth_is_told_with_its_error() -> None:
    rng = np.random.default_rng(0)
    found = [
        rates(np.full(30, 1_000_000), 1_000_000 // rng.integers(5_000, 15_000, 30))
        for _ in range(200)
    ]
    spread = np.std([one.worst_tenth for one in found])
    assert np.mean([one.worst_tenth_error for one in found]) == pytest.approx(spread, rel=0.4)


@given(seed=st.integers(0, 500), wanted=st.sampled_from([30.0, 100.0, 300.0]))
def test_matched_threshold_runs_as_long_as_wanted(seed: int, wanted: float) -> None:
    noise = np.random.default_rng(seed).exponential(size=(400, 60)).astype(np.float32)
    peaks = np.maximum.accumulate(noise, axis=0)
    threshold = matching_threshold(peaks, wanted)
    found = run_length(first_alarms(peaks, threshold)[None], 400).rows_per_alarm
    below = run_length(first_alarms(peaks, threshold - 0.05)[None], 400).rows_per_alarm
    assert below <= found
    assert wanted <= found < 1.2 * wanted


def test_delay_counts_from_the_change() -> None:
    found = delay(np.array([100, 104, 109]), change=100, length=200)
    assert found.median == 5.0
    assert found.missed_ratio == 0.0
    assert found.streams == 3


def test_streams_that_alarmed_before_the_change_are_left_out() -> None:
    found = delay(np.array([3, 99, 100]), change=100, length=200)
    assert (found.median, found.streams, found.alarmed_before) == (1.0, 1, 2)


def test_a_miss_counts_as_later_than_any_alarm() -> None:
    found = delay(np.array([101, 150, 200, 120, 200]), change=100, length=200)
    assert found.median == 51.0
    assert found.missed_ratio == pytest.approx(0.4)


def test_median_is_open_where_most_are_missed() -> None:
    found = delay(np.array([101, 200, 200]), change=100, length=200)
    assert found.median is None
    assert found.missed_ratio == pytest.approx(2 / 3)


def test_delay_without_a_stream_left_says_so() -> None:
    found = delay(np.array([5, 6]), change=100, length=200)
    assert (found.median, found.streams, found.alarmed_before) == (None, 0, 2)

"""What an observer counts for Prometheus."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.metrics import Counts
from monitor.secondary import BINS, Scale, fit_classes, fit_scale, level_of
from monitor.tally import BUCKETS, Tally, reference_bins, shown_bins

VALUES = np.array([*np.arange(100.0), *[np.nan] * 10])
SCALE = fit_scale("x", VALUES)
CONSTANT = fit_scale("c", np.zeros(110))
CLASSES = fit_classes(np.arange(110) % 12, 12)
SCALES = (SCALE, CONSTANT, CLASSES)


def tally_of(rows: list[tuple[float, float, int]]) -> Tally:
    tally = Tally(SCALES)
    for row in rows:
        levels = [level_of(scale, value) for scale, value in zip(SCALES, row, strict=True)]
        tally.count(levels)
    return tally


def test_reference_rows_lie_in_ten_bins_without_those_that_lack_the_feature() -> None:
    assert reference_bins(SCALE) == [10] * BINS
    assert reference_bins(CONSTANT)[0] == 110
    assert sum(reference_bins(CLASSES)) == 110


def test_only_bins_that_rows_can_reach_are_shown() -> None:
    assert shown_bins(SCALE) == list(range(BINS))
    assert shown_bins(CONSTANT) == [0, 9], "equal, or above"
    assert shown_bins(CLASSES) == list(range(BINS))
    assert shown_bins(fit_classes(np.array([0, 1, 1]), 2)) == [0, 1]


@given(
    st.lists(
        st.tuples(
            st.floats(-50.0, 150.0) | st.just(float("nan")),
            st.sampled_from([-1.0, 0.0, 1.0]),
            st.integers(0, 11),
        ),
        max_size=40,
    )
)
def test_every_row_is_in_a_shown_bin_of_each_feature_that_it_has(
    rows: list[tuple[float, float, int]],
) -> None:
    found = tally_of(rows).bins
    for at, scale in enumerate(SCALES):
        own = {key: count for key, count in found.items() if key[0] == scale.name}
        assert {place for _, place in own} <= set(shown_bins(scale))
        assert sum(own.values()) == sum(not np.isnan(row[at]) for row in rows)


def test_bins_count_what_lies_in_them() -> None:
    found = tally_of([(5.0, 0.0, 1), (99.5, 0.5, 1), (-3.0, -1.0, 0)]).bins
    assert (found["x", 0], found["x", 9]) == (2, 1)
    assert (found["c", 0], found["c", 9]) == (2, 1)


def test_durations_fall_into_buckets_with_their_bounds() -> None:
    tally = Tally(())
    for seconds in (BUCKETS[0], BUCKETS[0] * 1.01, 1.0):
        tally.took(seconds)
    assert (tally.durations[0], tally.durations[1], tally.durations[-1]) == (1, 1, 1)
    assert tally.seconds > 1.0


def test_counts_add_up_and_copies_are_their_own() -> None:
    one, other = tally_of([(5.0, 0.0, 1)]), tally_of([(5.0, 0.0, 1), (7.0, 0.0, 2)])
    one.observations, other.observations, other.alarms = 1, 2, 1
    counts = Counts()
    counts.add(one)
    both = counts.copy()
    both.add(other)
    assert (both.observations, both.alarms, both.bins["x", 0]) == (3, 1, 3)
    assert (counts.observations, counts.bins["x", 0]) == (1, 1)


def test_a_scale_without_rows_has_its_last_bin() -> None:
    empty = Scale("e", (), (0,) * 17, (0,) * 17, 0.0)
    assert shown_bins(empty) == [9]

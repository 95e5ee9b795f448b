"""Traffic and labels in, in any order: what is known of the accuracy comes out."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import MonitorError
from edgeloop.observer import AccuracyStatus, Labelled, LabelSource
from monitor.accuracy.fit import AccuracyFit, Floats
from monitor.accuracy.labels import ROWS as LABEL_ROWS
from monitor.accuracy.watch import AccuracyWatch
from tests.classifiers import FLOOR, draw

PROBABILITIES, RIGHT = draw(2_000, np.random.default_rng(51))
HARD, HARD_RIGHT = draw(2_000, np.random.default_rng(52), shift=3.5)


def label(
    at: int,
    right: bool,
    source: LabelSource = "audit",
    inclusion: float = 1.0,
    position: int = 0,
    probabilities: Floats = PROBABILITIES,
    corrects: bool = False,
) -> Labelled:
    p = probabilities[at % len(probabilities)]
    return Labelled(f"row {at}", position or at + 1, p, right, source, inclusion, corrects)


def watched(fit: AccuracyFit, labels: int = 0, rows: int = 0) -> AccuracyWatch:
    watch = AccuracyWatch(fit)
    for p in PROBABILITIES[:rows]:
        watch.observe(p)
    for at in range(labels):
        watch.label(label(at, bool(RIGHT[at])))
    return watch


def test_at_first_nothing_is_known(accuracy_fit: AccuracyFit) -> None:
    watch = AccuracyWatch(accuracy_fit)
    status = watch.status()
    threshold = status.errors_threshold
    assert status == AccuracyStatus(FLOOR, accuracy_fit.accuracy, errors_threshold=threshold)
    assert watch.upper_bound() is None
    assert not watch.is_estimate_below_floor()


def test_ordinary_traffic_and_labels_agree_with_the_reference(accuracy_fit: AccuracyFit) -> None:
    watch = watched(accuracy_fit, labels=400, rows=1_000)
    status = watch.status()
    assert status.atc is not None
    assert status.cbpe is not None
    assert status.anchored is not None
    assert status.labelled is not None
    for value in (status.atc.value, status.cbpe.value, status.anchored.estimate):
        assert abs(value - accuracy_fit.accuracy) < 0.04
    assert status.gap == abs(status.atc.value - status.cbpe.value)
    assert status.labelled.lower < RIGHT[:400].mean() < status.labelled.upper
    assert (status.labels, status.audit_rows, status.window_rows) == (400, 400, 1_000)
    assert status.label_position == 400
    assert status.calibration_error is not None
    assert status.calibration_error < 0.08
    assert not status.estimate_below_floor
    assert not status.errors_alarmed


def test_hard_traffic_is_below_the_floor_without_a_label(accuracy_fit: AccuracyFit) -> None:
    watch = AccuracyWatch(accuracy_fit)
    for p in HARD[:150]:
        watch.observe(p)
    assert not watch.is_estimate_below_floor(), "150 rows are too few to say so"
    for p in HARD[150:600]:
        watch.observe(p)
    assert watch.is_estimate_below_floor()


def test_a_drawn_sample_overrules_the_estimates(accuracy_fit: AccuracyFit) -> None:
    """The texts look hard, the answers are right; and the other way round."""
    watch = AccuracyWatch(accuracy_fit)
    for p in HARD[:600]:
        watch.observe(p)
    for at in range(100):
        watch.label(label(at, True, probabilities=HARD))
    assert not watch.is_estimate_below_floor()
    harmed = watched(accuracy_fit, rows=600)
    for at in range(100):
        harmed.label(label(at, at % 2 == 0))
    assert harmed.is_estimate_below_floor()


def test_wrong_answers_lower_the_upper_bound_and_alarm_once(accuracy_fit: AccuracyFit) -> None:
    watch = AccuracyWatch(accuracy_fit)
    alarms = [watch.label(label(at, at % 2 == 0)) for at in range(200)]
    assert sum(alarms) == 1
    bound = watch.upper_bound()
    assert bound is not None
    assert bound < FLOOR
    assert watch.status().errors_alarms == 1


def test_a_row_counts_once_however_often_it_is_labelled(accuracy_fit: AccuracyFit) -> None:
    watch = AccuracyWatch(accuracy_fit)
    for _ in range(50):
        watch.label(label(1, False))
    status = watch.status()
    assert (status.labels, status.labelled_rows, status.corrections) == (1, 1, 0)
    assert not status.errors_alarmed


def test_a_correction_takes_the_place_of_the_first_label(accuracy_fit: AccuracyFit) -> None:
    corrected, meant = watched(accuracy_fit, 300, 300), AccuracyWatch(accuracy_fit)
    for at in range(0, 300, 3):
        corrected.label(label(at, not RIGHT[at], position=1_000 + at))
    for p in PROBABILITIES[:300]:
        meant.observe(p)
    for at in range(300):
        meant.label(label(at, bool(RIGHT[at]) != (at % 3 == 0)))
    one, other = corrected.status(), meant.status()
    assert one.corrections == 100
    assert one.labelled == other.labelled
    assert one.anchored == other.anchored
    assert one.calibration_error == other.calibration_error
    assert one.label_position == 1_297


def test_a_correction_of_a_row_that_is_not_kept_any_more_changes_nothing(
    accuracy_fit: AccuracyFit,
) -> None:
    watch = watched(accuracy_fit, LABEL_ROWS + 10)
    before = watch.status()
    watch.label(label(3, not RIGHT[3], position=9_999, corrects=True))
    after = watch.status()
    assert after.late_corrections == 1
    assert replace(after, late_corrections=0, label_position=before.label_position) == before


def test_rows_drawn_for_being_unsure_stand_in_the_weighted_estimate_alone(
    accuracy_fit: AccuracyFit,
) -> None:
    watch = watched(accuracy_fit, rows=500)
    for at in range(100):
        watch.label(label(at, True, "captured", 0.1))
    for at in range(100, 200):
        watch.label(label(at, False, "captured_unsure", 0.2))
    status = watch.status()
    assert status.labelled_rows == 100
    assert status.labelled is not None
    assert status.labelled.estimate == 1.0
    assert not status.errors_alarmed
    assert status.audit_rows == 200
    assert status.anchored is not None
    # 100 right rows of weight 10, 100 wrong ones of weight 5.
    assert abs(status.anchored.estimate - 2 / 3) < 0.08
    assert watch.label(label(150, True, "captured_unsure", 0.2)) is False
    assert watch.status().labelled_rows == 100


def test_labels_that_nobody_drew_anchor_nothing(accuracy_fit: AccuracyFit) -> None:
    watch = watched(accuracy_fit, rows=500)
    for at in range(200):
        watch.label(label(at, bool(RIGHT[at]), "feedback"))
    status = watch.status()
    assert status.anchored is None
    assert (status.audit_rows, status.labelled_rows) == (0, 200)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=120), st.randoms())
def test_the_order_of_arrival_does_not_matter(
    accuracy_fit: AccuracyFit, said: list[tuple[int, bool]], shuffle: object
) -> None:
    """Of each row the label that was given last counts, whatever came between."""
    last = dict(said)
    one, other = AccuracyWatch(accuracy_fit), AccuracyWatch(accuracy_fit)
    for at, right in said:
        one.label(label(at, right))
    for at, right in sorted(last.items(), key=lambda item: item[0] * 7919 % 41):
        other.label(label(at, right))
    assert one.upper_bound() == other.upper_bound()
    assert one.status().labels == other.status().labels == len(last)


# -- state ---------------------------------------------------------------------------------------


def steps(count: int) -> list[tuple[bool, int]]:
    """Rows and labels, mixed: (is a label, which row)."""
    rng = np.random.default_rng(53)
    return [(bool(rng.random() < 0.4), int(rng.integers(0, 300))) for _ in range(count)]


def step(watch: AccuracyWatch, is_label: bool, at: int, number: int) -> bool:
    if not is_label:
        watch.observe(HARD[at])
        return False
    sources: tuple[LabelSource, ...] = ("audit", "feedback", "captured", "captured_unsure")
    right = bool(HARD_RIGHT[at]) != (number % 11 == 0)
    return watch.label(label(at, right, sources[at % 4], 0.3, number + 1, HARD))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(0, 799), max_size=4))
def test_stops_anywhere_change_nothing(accuracy_fit: AccuracyFit, stops: list[int]) -> None:
    steady, stopped = AccuracyWatch(accuracy_fit), AccuracyWatch(accuracy_fit)
    for number, (is_label, at) in enumerate(steps(800)):
        if number in stops:
            stopped = AccuracyWatch.restored(accuracy_fit, stopped.state())
        alarmed = step(steady, is_label, at, number)
        assert step(stopped, is_label, at, number) == alarmed
    assert stopped.state() == steady.state()
    assert stopped.status() == steady.status()
    assert steady.status().errors_alarms == 1


def test_the_state_is_small_and_holds_no_id(accuracy_fit: AccuracyFit) -> None:
    state = watched(accuracy_fit, 1_000, 2_000).state()
    assert len(state) < 10_000
    assert b"row" not in state


@settings(max_examples=60)
@given(st.data())
def test_a_damaged_state_is_refused_or_is_one(
    accuracy_fit: AccuracyFit, data: st.DataObject
) -> None:
    """The observer's checksum finds all damage; what is taken here must at least be whole."""
    state = watched(accuracy_fit, 20, 20).state()
    at = data.draw(st.integers(0, len(state) - 1))
    damaged = data.draw(
        st.sampled_from([b"", state[:at], state[:at] + bytes([state[at] ^ 64]) + state[at + 1 :]])
    )
    with suppress(MonitorError):
        AccuracyWatch.restored(accuracy_fit, damaged).status()


def test_a_state_of_another_version_is_refused(accuracy_fit: AccuracyFit) -> None:
    state = bytearray(AccuracyWatch(accuracy_fit).state())
    assert state[1] == 1
    state[1] = 2
    with pytest.raises(MonitorError, match="version 2, this edgeloop reads 1"):
        AccuracyWatch.restored(accuracy_fit, bytes(state))

"""Live traffic in longer bursts than the reference is noticed; other traffic is not."""

import numpy as np
import pytest

from monitor import neighbours
from monitor.detector import Detector
from monitor.fit import Fitted, fit_reference
from tests import clouds


def watched(fitted: Fitted, rows: clouds.Rows) -> float:
    """The highest burst evidence ratio on the way."""
    detector, highest = Detector(fitted), 0.0
    for x, p in zip(*rows, strict=True):
        detector.update(x, p)
        highest = max(highest, detector.burst_evidence_ratio)
    return highest


def drawn(rows: int, seed: int, **kind: float) -> clouds.Rows:
    return clouds.draw(
        rows, np.random.default_rng(seed), kind.get("new", 0.0), kind.get("burst", 1.0)
    )


def test_bursts_that_the_reference_did_not_have_are_noticed(fitted: Fitted) -> None:
    assert watched(fitted, drawn(600, 1, burst=2.0)) >= 1.0


def test_independent_rows_and_a_new_topic_are_no_bursts(fitted: Fitted) -> None:
    for seed in range(5):
        assert watched(fitted, drawn(300, seed)) < 1.0
        assert watched(fitted, drawn(300, seed, new=0.5)) < 1.0


def test_bursts_like_those_of_the_reference_are_no_news() -> None:
    fitted = fit_reference(*clouds.reference(1100, 0, 2.0), target_run_length=300)
    assert fitted.neighbour_excess > 0.3
    for seed in range(5):
        assert watched(fitted, drawn(300, seed, burst=2.0)) < 1.0


def test_an_alarm_of_traffic_in_unknown_bursts_is_only_advice(fitted: Fitted) -> None:
    detector = Detector(fitted)
    rows = drawn(4000, 2, burst=6.0)
    found = (detector.update(x, p) for x, p in zip(*rows, strict=True))
    alarm = next(alarm for alarm in found if alarm is not None)
    assert alarm.advisory == (detector.burst_evidence_ratio >= 1.0)


@pytest.mark.parametrize("excess", [0.0, 0.2, 1.0])
def test_no_member_gains_where_near_rows_agree_as_often_as_known(excess: float) -> None:
    agreeing, others = (neighbours.earned(near, False, excess) for near in (True, False))
    for bet, other in zip(agreeing, others, strict=True):
        assert excess * bet + (1.0 - excess) * other == pytest.approx(1.0)


def test_a_reference_too_short_to_tell_allows_everything() -> None:
    assert neighbours.reference_excess(np.zeros(20, dtype=np.intp)) == 1.0

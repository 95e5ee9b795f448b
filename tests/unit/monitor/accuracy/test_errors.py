"""The detector of concept drift keeps its run length, and finds what it is for."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.accuracy.errors import (
    LEAST_ERROR,
    ODDS_RATIOS,
    RUN_LENGTH,
    ErrorDetector,
    ordinary_error,
)
from monitor.accuracy.fit import AccuracyFit


def run_lengths(error: float, wrong: np.ndarray, threshold: float) -> np.ndarray:
    """Labels until the alarm, or all, of streams of errors (streams, labels): the same recursion in
    an array of streams."""
    if_right = 1.0 / (1.0 - error + ODDS_RATIOS * error)
    evidence = np.zeros((len(wrong), len(ODDS_RATIOS)))
    length = np.full(len(wrong), wrong.shape[1])
    for at in range(wrong.shape[1]):
        ratio = np.where(wrong[:, at, None], ODDS_RATIOS * if_right, if_right)
        evidence = ratio * (evidence + 1.0)
        alarmed = (evidence.mean(axis=1) >= threshold) & (length == wrong.shape[1])
        length[alarmed] = at + 1
    return length


@pytest.mark.parametrize("error", [0.02, 0.1, 0.4])
def test_the_run_length_is_kept_where_nothing_changed(error: float) -> None:
    """Theory promises A labels on average for a threshold of A. Simulated at A = 200, where it is
    tightest in so many labels: 1,500 streams of 2,000."""
    rng = np.random.default_rng([41, int(100 * error)])
    length = run_lengths(error, rng.random((1_500, 2_000)) < error, 200.0)
    assert length.mean() >= 200.0
    fewer = run_lengths(error, rng.random((200, 2_000)) < 0.7 * error, 200.0)
    assert fewer.mean() > length.mean(), "and for longer where there are fewer errors"


def test_errors_that_come_in_bursts_keep_it_as_long_as_each_is_unlikely_given_the_past() -> None:
    """Error probabilities that wander below the ordinary one, depending on the errors before."""
    rng = np.random.default_rng(42)
    wrong = np.zeros((800, 1_500), dtype=bool)
    for at in range(1, 1_500):
        p = np.where(wrong[:, at - 1], 0.1, 0.02)
        wrong[:, at] = rng.random(800) < p
    assert run_lengths(0.1, wrong, 150.0).mean() >= 150.0


@pytest.mark.parametrize(
    ("error", "risen", "most"), [(0.1, 0.3, 60), (0.1, 0.2, 160), (0.05, 0.5, 20)]
)
def test_a_risen_error_is_found(error: float, risen: float, most: int) -> None:
    """Median labels from the change to the alarm, after 300 labels without one."""
    rng = np.random.default_rng(43)
    delays = []
    for _ in range(60):
        detector = ErrorDetector(error)
        for wrong in rng.random(300) < error / 2:
            detector.update(not wrong)
        for at, wrong in enumerate(rng.random(2_000) < risen, 1):
            if detector.update(not wrong):
                delays.append(at)
                break
    assert len(delays) == 60
    assert np.median(delays) <= most


def test_it_alarms_once_and_is_what_was_simulated() -> None:
    rng = np.random.default_rng(44)
    wrong = rng.random(400) < 0.5
    detector = ErrorDetector(0.1)
    alarms = [at for at, x in enumerate(wrong, 1) if detector.update(not x)]
    assert alarms == run_lengths(0.1, wrong[None], float(RUN_LENGTH)).tolist()
    assert detector.alarmed
    assert detector.alarms == 1
    assert detector.threshold == pytest.approx(math.log(RUN_LENGTH))
    assert math.isfinite(detector.log_evidence)


def test_there_is_no_evidence_before_the_first_label() -> None:
    assert ErrorDetector(0.1).log_evidence == 0.0


def test_an_error_rate_of_one_cannot_rise() -> None:
    detector = ErrorDetector(1.0)
    assert not any(detector.update(False) for _ in range(1_000))


def test_the_ordinary_error_allows_for_a_lucky_reference(accuracy_fit: AccuracyFit) -> None:
    error = 1.0 - accuracy_fit.accuracy
    assert error + 0.01 < ordinary_error(accuracy_fit) < error + 0.03


def test_answers_that_are_all_right_never_alarm(accuracy_fit: AccuracyFit) -> None:
    perfect = replace(accuracy_fit, accuracy=1.0, rows=1_000_000)
    assert ordinary_error(perfect) == LEAST_ERROR
    detector = ErrorDetector(ordinary_error(perfect))
    assert not any(detector.update(True) for _ in range(3_000))
    settled = detector.log_evidence
    detector.update(True)
    assert detector.log_evidence == pytest.approx(settled)
    assert settled < 0.6 * detector.threshold


@given(st.lists(st.booleans(), max_size=80), st.lists(st.booleans(), max_size=80))
def test_it_goes_on_from_its_state(before: list[bool], after: list[bool]) -> None:
    one, other = ErrorDetector(0.2), ErrorDetector(0.2)
    for x in before:
        one.update(x)
    other.restore(*one.state())
    for x in after:
        assert one.update(x) == other.update(x)
    assert one.state() == other.state()


@pytest.mark.parametrize("evidence", [b"", b"\0" * 8, np.full(4, np.nan).tobytes()])
def test_a_state_that_does_not_fit_is_refused(evidence: bytes) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        ErrorDetector(0.2).restore(evidence, False, 0)

"""The detector over stored rows raises the alarms that the live one raises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from monitor.detector import Alarm, Detector
from monitor.fit import Fitted, fit_reference
from monitor.rehearsal import TOLERANCE, Rehearsal, Rehearsed
from tests import clouds


def stream(seed: int, ordinary: int = 400, shifted: int = 80) -> clouds.Rows:
    """Ordinary rows, new ones, ordinary ones again; two that are not finite."""
    rng = np.random.default_rng(seed)
    parts = [clouds.draw(ordinary, rng), clouds.draw(shifted, rng, 0.5), clouds.draw(60, rng)]
    embeddings = np.concatenate([part[0] for part in parts])
    probabilities = np.concatenate([part[1] for part in parts])
    embeddings[seed % 7] = np.inf
    probabilities[ordinary + 3, 0] = np.nan
    return embeddings, probabilities


def live(fitted: Fitted, rows: clouds.Rows, restart: bool) -> tuple[list[Alarm], list[float], int]:
    detector, alarms, course = Detector(fitted), [], []
    for embedding, own in zip(*rows, strict=True):
        skipped = detector.skipped
        alarm = detector.update(embedding, own)
        if detector.skipped == skipped:
            course.append(detector.log_evidence)
        if alarm is not None:
            alarms.append(alarm)
            if restart:
                detector.reset()
    return alarms, course, detector.skipped


def rehearse(
    rehearsal: Rehearsal, rows: clouds.Rows, chunk: int
) -> tuple[list[Rehearsed], list[float]]:
    alarms: list[Rehearsed] = []
    course: list[float] = []
    for start in range(0, len(rows[0]), chunk):
        taken = rehearsal.take(rows[0][start : start + chunk], rows[1][start : start + chunk])
        alarms += taken.alarms
        course += taken.log_evidence.tolist()
    return alarms, course


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1_000), chunk=st.sampled_from([1, 7, 256, 257, 10_000]))
def test_the_same_alarms_as_one_by_one_whatever_the_chunks(
    fitted: Fitted, seed: int, chunk: int
) -> None:
    rows = stream(seed)
    for restart in (False, True):
        alarms, course, skipped = live(fitted, rows, restart)
        rehearsal = Rehearsal(fitted, fitted.threshold, restart)
        found, found_course = rehearse(rehearsal, rows, chunk)
        assert [own.alarm.observation for own in found] == [own.observation for own in alarms]
        assert alarms
        for own, known in zip(found, alarms, strict=True):
            assert own.alarm.log_evidence == pytest.approx(known.log_evidence, abs=TOLERANCE)
            assert own.alarm.parts == pytest.approx(known.parts, abs=TOLERANCE)
            assert own.alarm.effect_size == pytest.approx(known.effect_size, abs=TOLERANCE)
            assert own.alarm.advisory == known.advisory
        assert found_course == pytest.approx(course, abs=TOLERANCE)
        assert (rehearsal.skipped, rehearsal.observations) == (skipped, len(course))


def test_a_row_on_a_threshold_is_scored_as_the_detector_does(fitted: Fitted) -> None:
    """Reference rows themselves: their scores are where the thresholds lie."""
    rows = clouds.reference()
    tied = np.repeat(rows[0], 2, axis=0), np.repeat(rows[1], 2, axis=0)
    detector = Detector(fitted)
    for embedding, own in zip(*tied, strict=True):
        detector.update(embedding, own)
    _, course = rehearse(Rehearsal(fitted, None), tied, 128)
    assert course[-1] == pytest.approx(detector.log_evidence, abs=TOLERANCE)


def test_without_a_threshold_nothing_alarms(fitted: Fitted) -> None:
    alarms, course = rehearse(Rehearsal(fitted, None), stream(1), 100)
    assert alarms == []
    assert max(course) > fitted.threshold


def test_the_onset_is_where_the_evidence_began_to_rise(fitted: Fitted) -> None:
    found, course = rehearse(Rehearsal(fitted, 9.0), stream(2, 300, 100), 64)
    (alarm,) = found
    low = [place + 1 for place, value in enumerate(course) if value <= 4.5]
    assert alarm.onset == max(place for place in low if place < alarm.alarm.observation) + 1
    assert 290 <= alarm.onset <= alarm.alarm.observation


def test_a_model_without_classes_and_rows_in_bursts_are_rehearsed_as_well() -> None:
    """One class: no confidence and no class mix. Bursts: bets to a power below 1."""
    embeddings, probabilities = clouds.reference(600)
    one = fit_reference(embeddings, np.ones((600, 1)), 300)
    repeated = np.repeat(embeddings, 2, axis=0), np.repeat(probabilities, 2, axis=0)
    bursty = fit_reference(*repeated, 300)
    assert max(bursty.design_effects) > 1.0
    rows = stream(5)
    for known, own in ((one, (rows[0], np.ones((len(rows[0]), 1)))), (bursty, rows)):
        _, course, _ = live(known, own, False)
        assert rehearse(Rehearsal(known, None), own, 50)[1] == pytest.approx(course, abs=TOLERANCE)


def test_embeddings_of_another_model_are_refused(fitted: Fitted) -> None:
    with pytest.raises(DatasetError, match="this bundle's model's own"):
        Rehearsal(fitted, None).take(np.zeros((3, 4), np.float32), np.ones((3, 2)) / 2)
    embeddings, probabilities = clouds.reference()
    with pytest.raises(DatasetError, match="of 8 classes; they must be"):
        Rehearsal(fitted, None).take(embeddings, probabilities[:, :5])

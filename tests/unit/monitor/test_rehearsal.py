"""The detector over stored rows raises the alarms that the live one raises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from monitor.detector import Alarm, Detector
from monitor.fit import Fitted, fit_reference
from monitor.onset import rows_since_onset
from monitor.rehearsal import TOLERANCE, Rehearsal, Rehearsed
from monitor.secondary import CLASS_MIX, Scale, Secondary, fit_classes, fit_scale
from monitor.thresholds import Limits
from tests import clouds


def scales() -> tuple[Scale, ...]:
    """Of the confidence and the class mix of the reference."""
    _, probabilities = clouds.reference()
    confidence = fit_scale("confidence", probabilities.max(axis=1))
    return confidence, fit_classes(probabilities.argmax(axis=1), probabilities.shape[1])


def limits(primary: float | None, secondary: float = np.inf) -> Limits:
    """No alarm where a limit is not given."""
    known = 1.0 if primary is None else primary
    return Limits(known, secondary, primary is not None, secondary < np.inf)


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
        rehearsal = Rehearsal(fitted, limits(fitted.threshold), scales(), restart)
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
    _, course = rehearse(Rehearsal(fitted, limits(None), scales()), tied, 128)
    assert course[-1] == pytest.approx(detector.log_evidence, abs=TOLERANCE)


def test_without_a_threshold_nothing_alarms(fitted: Fitted) -> None:
    alarms, course = rehearse(Rehearsal(fitted, limits(None), scales()), stream(1), 100)
    assert alarms == []
    assert max(course) > fitted.threshold


def test_the_onset_is_that_of_the_highest_evidence_since_the_detectors_began(
    fitted: Fitted,
) -> None:
    rows = stream(2, 300, 100)
    rehearsal = Rehearsal(fitted, limits(9.0), scales())
    found, course = rehearse(rehearsal, rows, 64)
    (alarm,) = found
    path = np.array(course[: alarm.alarm.observation], dtype=np.float32) / np.float32(9.0)
    since = rows_since_onset(path)
    assert alarm.onset == alarm.alarm.observation - since + 1
    assert 290 <= alarm.onset <= alarm.alarm.observation


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1_000), chunk=st.sampled_from([1, 7, 256, 10_000]), restart=st.booleans()
)
def test_secondary_detectors_alarm_as_one_by_one_and_all_begin_anew(
    fitted: Fitted, seed: int, chunk: int, restart: bool
) -> None:
    """A limit of 3 for them, so that either kind is first at times."""
    embeddings, probabilities = stream(seed)
    features = probabilities.max(axis=1, keepdims=True)
    both = limits(fitted.threshold, 3.0)
    expected = live_together(fitted, both, (embeddings, probabilities), restart)
    rehearsal = Rehearsal(fitted, both, scales(), restart)
    found: list[Rehearsed] = []
    ratios: list[float] = []
    for start in range(0, len(embeddings), chunk):
        part = slice(start, start + chunk)
        taken = rehearsal.take(embeddings[part], probabilities[part], features[part])
        found += taken.alarms
        ratios += taken.ratios.tolist()
    assert [own.alarm.observation for own in found] == [row for row, _ in expected]
    assert expected
    for own, (_, secondary) in zip(found, expected, strict=True):
        assert own.secondary == pytest.approx(secondary, abs=TOLERANCE)
        assert ratios[own.alarm.observation - 1] >= 1.0
    assert len(ratios) == rehearsal.observations


def live_together(
    fitted: Fitted, both: Limits, rows: clouds.Rows, restart: bool
) -> list[tuple[int, list[float]]]:
    """The observation of every alarm, and the secondary detectors' log evidence there."""
    detector, secondary = Detector(fitted), Secondary(scales())
    assert secondary.names == ("confidence", CLASS_MIX)
    found: list[tuple[int, list[float]]] = []
    for embedding, own in zip(*rows, strict=True):
        skipped = detector.skipped
        detector.update(embedding, own)
        if detector.skipped > skipped or (found and not restart):
            continue
        secondary.update(secondary.levels([float(own.max()), float(own.argmax())]))
        highest = secondary.highest_log_evidence
        if detector.log_evidence >= both.primary or highest >= both.secondary:
            found.append((detector.observations, secondary.log_evidence.tolist()))
            detector.reset()
            secondary.reset()
    return found


def test_rows_without_features_leave_the_secondary_detectors_as_they_were(fitted: Fitted) -> None:
    embeddings, probabilities = clouds.reference()
    features = probabilities.max(axis=1, keepdims=True)
    rehearsal = Rehearsal(fitted, limits(1e9, 1e9), scales())
    first = rehearsal.take(embeddings[:300], probabilities[:300], features[:300])
    again = Rehearsal(fitted, limits(1e9, 1e9), scales())
    again.take(embeddings[:300], probabilities[:300], features[:300])
    again.take(embeddings[:50], probabilities[:50])
    rehearsal.take(embeddings[300:], probabilities[300:], features[300:])
    again.take(embeddings[300:], probabilities[300:], features[300:])
    assert first.ratios.shape == (300,)
    assert again._secondary.log_evidence == pytest.approx(rehearsal._secondary.log_evidence)


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
        assert rehearse(Rehearsal(known, limits(None), scales()), own, 50)[1] == pytest.approx(
            course, abs=TOLERANCE
        )


def test_embeddings_of_another_model_are_refused(fitted: Fitted) -> None:
    with pytest.raises(DatasetError, match="this bundle's model's own"):
        Rehearsal(fitted, limits(None), scales()).take(
            np.zeros((3, 4), np.float32), np.ones((3, 2)) / 2
        )
    embeddings, probabilities = clouds.reference()
    with pytest.raises(DatasetError, match="of 8 classes; they must be"):
        Rehearsal(fitted, limits(None), scales()).take(embeddings, probabilities[:, :5])

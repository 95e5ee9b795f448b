"""The live detector: alarms once, only where armed, and goes on from a saved state bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import MonitorError
from monitor.detector import Alarm, Detector
from monitor.fit import Fitted
from tests import clouds

seeds = st.integers(0, 2**32 - 1)
shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])


def feed(detector: Detector, rows: clouds.Rows) -> list[Alarm]:
    found = (detector.update(x, p) for x, p in zip(*rows, strict=True))
    return [alarm for alarm in found if alarm is not None]


def stream(rows: int, seed: int, new_share: float) -> clouds.Rows:
    return clouds.draw(rows, np.random.default_rng(seed), new_share)


def test_new_traffic_alarms_once_until_reset(fitted: Fitted) -> None:
    detector = Detector(fitted)
    rows = stream(200, 1, new_share=1.0)
    (alarm,) = feed(detector, rows)
    assert detector.alarmed
    assert alarm.log_evidence >= fitted.threshold
    assert alarm.observation < 60
    assert set(alarm.parts) == {"witness", "novelty", "confidence", "class_mix"}
    assert not alarm.advisory
    detector.reset()
    assert not detector.alarmed
    assert detector.log_evidence == 0.0
    assert len(feed(detector, rows)) == 1
    assert (detector.alarms, detector.observations) == (2, 400)


@given(seeds, shares)
@settings(max_examples=20, deadline=None)
def test_a_detector_that_is_not_armed_never_alarms(
    advisory: Fitted, seed: int, share: float
) -> None:
    detector = Detector(advisory)
    assert feed(detector, stream(150, seed, share)) == []
    assert detector.observations == 150
    assert detector.log_evidence > -1.0


@given(seeds, shares, st.integers(0, 120))
@settings(max_examples=20, deadline=None)
def test_a_restored_detector_alarms_bit_for_bit_alike(
    fitted: Fitted, seed: int, share: float, cut: int
) -> None:
    embeddings, probabilities = stream(120, seed, share)
    through, before, after = Detector(fitted), Detector(fitted), Detector(fitted)
    expected = feed(through, (embeddings, probabilities))
    found = feed(before, (embeddings[:cut], probabilities[:cut]))
    after.restore(before.state())
    found += feed(after, (embeddings[cut:], probabilities[cut:]))
    assert found == expected
    assert after.state() == through.state()


def test_advice_is_raised_and_marked() -> None:
    detector = Detector.fit(*clouds.reference(120), 300, advisory=True)
    (alarm,) = feed(detector, stream(200, 1, 1.0))
    assert alarm.advisory


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_less_confident_rows_never_give_less_evidence(fitted: Fitted, seed: int) -> None:
    embeddings, probabilities = stream(60, seed, 0.2)
    unsure = 0.5 * probabilities + 0.5 / probabilities.shape[1]
    first, second = Detector(fitted), Detector(fitted)
    for x, p, q in zip(embeddings, probabilities, unsure, strict=True):
        first.update(x, p)
        second.update(x, q)
        assert second.log_evidence >= first.log_evidence


def test_the_length_of_an_embedding_says_nothing(fitted: Fitted) -> None:
    embeddings, probabilities = stream(50, 3, 0.5)
    first, second = Detector(fitted), Detector(fitted)
    feed(first, (embeddings, probabilities))
    feed(second, (embeddings * np.float32(4.0), probabilities))
    assert second.log_evidence == first.log_evidence


def test_rows_that_are_not_finite_are_counted_and_skipped(fitted: Fitted) -> None:
    detector, clean = Detector(fitted), Detector(fitted)
    embeddings, probabilities = stream(30, 4, 0.5)
    feed(clean, (embeddings, probabilities))
    for bad in (np.nan, np.inf, -np.inf):
        broken = embeddings[0].copy()
        broken[5] = bad
        assert detector.update(broken, probabilities[0]) is None
    assert detector.update(embeddings[0], np.full(clouds.CLASSES, np.nan)) is None
    feed(detector, (embeddings, probabilities))
    assert (detector.skipped, detector.observations) == (4, 30)
    assert detector.log_evidence == clean.log_evidence


def test_an_embedding_of_another_model_is_an_error(fitted: Fitted) -> None:
    with pytest.raises(MonitorError, match=r"shape \(15,\)"):
        Detector(fitted).update(np.ones(15, dtype=np.float32), np.ones(clouds.CLASSES))
    with pytest.raises(MonitorError, match=r"shape \(2,\)"):
        Detector(fitted).update(np.ones(clouds.HIDDEN, dtype=np.float32), np.ones(2))


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_a_damaged_state_is_refused_and_changes_nothing(
    fitted: Fitted, data: st.DataObject
) -> None:
    detector = Detector(fitted)
    feed(detector, stream(10, 5, 0.5))
    good = detector.state()
    at = data.draw(st.integers(0, len(good) - 1))
    damaged = bytearray(good)
    damaged[at] ^= data.draw(st.integers(1, 255))
    for state in (bytes(damaged), good[:at], good + b"x"):
        with pytest.raises(MonitorError, match="starts afresh"):
            detector.restore(state)
    assert detector.state() == good


def test_a_state_of_another_reference_is_refused(fitted: Fitted, advisory: Fitted) -> None:
    with pytest.raises(MonitorError, match="another reference"):
        Detector(advisory).restore(Detector(fitted).state())


def test_a_state_takes_less_than_sixteen_kilobytes_whatever_the_classes() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(1100, 96)).astype(np.float32)
    detector = Detector.fit(embeddings, rng.dirichlet(np.ones(1000), size=1100), 100)
    assert len(detector.fitted.whitening.projection) == 64
    assert len(detector.fitted.kind_counts) == 256
    assert detector.state_bytes == len(detector.state()) < 16 * 1024


def test_the_effect_is_the_distance_in_deviations_and_nothing_without_drift(
    fitted: Fitted,
) -> None:
    still, moved = Detector(fitted), Detector(fitted)
    assert still.effect_size == 0.0
    rows = stream(1500, 6, 0.0)
    feed(still, rows)
    assert still.effect_size < 0.5
    feed(moved, stream(1500, 7, 1.0))
    distance = np.linalg.norm(
        (clouds.CENTRES[-1] - fitted.whitening.mean) @ fitted.whitening.projection.T
    )
    assert moved.effect_size == pytest.approx(distance, rel=0.35)


def test_classes_going_missing_are_seen_by_the_mix(fitted: Fitted) -> None:
    detector = Detector(fitted)
    (alarm,) = feed(detector, clouds.draw(400, np.random.default_rng(0), clusters=3))
    assert alarm.parts["class_mix"] > fitted.threshold - 1.0
    assert alarm.parts["class_mix"] > alarm.parts["novelty"]


def test_fit_is_the_shortest_way_to_a_detector() -> None:
    detector = Detector.fit(*clouds.reference(40), target_run_length=100)
    assert not detector.fitted.armed
    assert set(detector.parts.values()) == {0.0}

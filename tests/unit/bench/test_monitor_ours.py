"""bench.monitor's way of watching many streams at a time is the live detector's."""

from functools import cache

import numpy as np
import pytest

from bench.monitor import ours
from bench.monitor.streams import Source
from monitor.detector import Detector
from tests import clouds

TARGET = 300
REFERENCE_ROWS = 560


@cache
def source() -> Source:
    rng = np.random.default_rng(1)
    known, new = clouds.draw(1_200, rng), clouds.draw(100, rng, new_share=1.0)
    return Source(
        name="clouds",
        about="",
        embeddings=np.concatenate([known[0], new[0]]),
        probabilities=np.concatenate([known[1], new[1]]),
        kinds=known[1].argmax(axis=1),
        groups={"new": np.arange(1_200, 1_300)},
        variants={},
    )


@cache
def detector() -> Detector:
    return ours.fit(source(), np.arange(REFERENCE_ROWS), TARGET, 0)


def test_many_streams_at_a_time_see_what_each_sees_alone() -> None:
    ids = np.random.default_rng(2).integers(REFERENCE_ROWS, 1_300, size=(150, 3))
    together = ours.highest(detector(), source(), ids)
    alone = ours.by_rows(detector(), source(), ids)
    assert together == pytest.approx(alone, abs=1e-3)


def test_a_new_topic_alarms_again_after_each_reset() -> None:
    stream = np.random.default_rng(3).choice(source().groups["new"], size=300)
    assert ours.alarms(detector(), source(), stream) >= 2


def test_rows_without_drift_alarm_less_often_than_promised() -> None:
    stream = np.random.default_rng(4).integers(REFERENCE_ROWS, 1_200, size=1_500)
    assert ours.alarms(detector(), source(), stream) <= 1_500 / TARGET


def test_model_bytes_counts_every_array_once() -> None:
    fitted = detector().fitted
    assert ours.model_bytes(fitted) >= fitted.centroids.nbytes
    assert ours.model_bytes({"a": np.zeros(3), "b": [np.zeros(2), "text"]}) == 40

"""The queue before the drift monitor."""

import threading
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edgeloop.observer import Labelled, Observation, ObserverStatus
from edgeloop.records import Verdict
from serve.feed import Feed
from serve.metrics import ServeMetrics

WAIT_SECONDS = 10.0


class Recorder:
    """Keeps the texts; fails at "break", alarms at "alarm", waits for `gate`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def observe(self, observation: Observation) -> Verdict | None:
        assert self.gate.wait(WAIT_SECONDS)
        if observation.text == "break":
            raise RuntimeError("the monitor broke")
        self.texts.append(observation.text)
        return verdict() if observation.text == "alarm" else None

    def label(self, labelled: Labelled) -> Verdict | None:
        self.texts.append(f"label {labelled.id}")
        return None if labelled.right else verdict()

    def status(self) -> ObserverStatus:
        return ObserverStatus(True, len(self.texts), 0, 0.0, 1.0, 100, 100.0, 0, False)

    def state(self) -> bytes:
        return "\n".join(self.texts).encode()

    def restore(self, state: bytes) -> None:
        self.texts = state.decode().split("\n")


def verdict() -> Verdict:
    return Verdict(
        model="m",
        bundle_digest="d",
        at="2026-01-01T00:00:00+00:00",
        observation=1,
        detector="word",
        log_evidence=2.0,
        threshold=1.0,
        parts={},
        target_run_length=100,
        words=(),
        classes=(),
    )


def observation(text: str) -> Observation:
    return Observation(text, np.zeros(2, np.float32), np.ones(2), 3)


def counted(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"edgeloop_{name}_total", {"model": "m"})


def finish(feed: Feed) -> None:
    feed.close()
    feed.join(WAIT_SECONDS)


def test_observations_arrive_in_order_and_close_loses_none() -> None:
    recorder = Recorder()
    feed = Feed(recorder, lambda _: None, ServeMetrics(CollectorRegistry(), "m"))
    texts = [str(i) for i in range(200)]
    for text in texts:
        feed.put(observation(text))
    finish(feed)
    assert recorder.texts == texts


def test_a_slow_monitor_drops_and_counts() -> None:
    registry, recorder = CollectorRegistry(), Recorder()
    recorder.gate.clear()
    feed = Feed(recorder, lambda _: None, ServeMetrics(registry, "m"), limit=3)
    for i in range(10):
        feed.put(observation(str(i)))
    dropped = counted(registry, "monitor_dropped")
    recorder.gate.set()
    finish(feed)
    # The thread may have taken one out of the queue already.
    assert dropped in (6, 7)
    assert len(recorder.texts) == 10 - dropped


def test_a_broken_monitor_is_counted_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    registry, recorder = CollectorRegistry(), Recorder()
    feed = Feed(recorder, lambda _: None, ServeMetrics(registry, "m"))
    for text in ("a", *["break"] * 5, "b"):
        feed.put(observation(text))
    finish(feed)
    assert recorder.texts == ["a", "b"]
    assert counted(registry, "monitor_errors") == 5
    assert sum("observer_failed" in r.message for r in caplog.records) == 3  # 1st, 2nd, 4th


def test_a_verdict_is_kept_and_handed_on() -> None:
    handed: list[Verdict] = []
    feed = Feed(Recorder(), handed.append, ServeMetrics(CollectorRegistry(), "m"))
    feed.put(observation("alarm"))
    finish(feed)
    assert handed == [verdict()]
    assert feed.verdict == verdict()


def test_a_verdict_that_cannot_be_stored_is_still_shown() -> None:
    registry, recorder = CollectorRegistry(), Recorder()

    def fail(_: Verdict) -> None:
        raise OSError("the disk is full")

    feed = Feed(recorder, fail, ServeMetrics(registry, "m"))
    feed.put(observation("alarm"))
    feed.put(observation("after"))
    finish(feed)
    assert feed.verdict == verdict()
    assert recorder.texts == ["alarm", "after"]
    assert counted(registry, "monitor_errors") == 1


# -- labels --------------------------------------------------------------------------------------


def labelled(name: str, right: bool = True) -> Labelled:
    return Labelled(name, 1, np.ones(2), right)


def test_labels_come_behind_what_was_there_before_them() -> None:
    recorder = Recorder()
    told: list[Verdict] = []
    feed = Feed(recorder, told.append, ServeMetrics(CollectorRegistry(), "m"))
    feed.put(observation("one"))
    assert feed.put_label(labelled("a"))
    feed.put(observation("two"))
    assert feed.put_label(labelled("b", right=False))
    finish(feed)
    assert recorder.texts == ["one", "label a", "two", "label b"]
    assert told == [verdict()]
    assert feed.verdict == verdict()


def test_a_label_that_does_not_fit_is_not_taken() -> None:
    recorder = Recorder()
    recorder.gate.clear()
    feed = Feed(recorder, lambda _: None, ServeMetrics(CollectorRegistry(), "m"), limit=1)
    feed.put(observation("in hand"))
    while not feed.put_label(labelled("a")):
        time.sleep(0.01)
    assert not feed.put_label(labelled("b"))
    recorder.gate.set()
    finish(feed)
    assert recorder.texts == ["in hand", "label a"]

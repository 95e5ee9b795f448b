"""How soon what has ended is started again."""

import threading

from serve import restarts
from serve.restarts import Restarts

WAIT_SECONDS = 10.0


def test_it_is_started_once_for_each_end() -> None:
    started = threading.Semaphore(0)
    made = Restarts(started.release)
    made.later(0.0)
    made.later(0.0)
    assert started.acquire(timeout=WAIT_SECONDS)
    assert started.acquire(timeout=WAIT_SECONDS)
    assert not started.acquire(blocking=False)


def test_what_keeps_ending_waits_longer_each_time_and_what_was_well_does_not() -> None:
    made = Restarts(lambda: None)
    waits = []
    for lived_seconds in (0.0,) * 12 + (restarts.WELL_SECONDS + 1.0,):
        made.later(lived_seconds)
        waits.append(made._timers[-1].interval)
    made.cancel()
    assert waits[:3] == [0.1, 0.2, 0.4]
    assert waits[11] == restarts.LONGEST_WAIT_SECONDS
    assert waits[12] == restarts.FIRST_WAIT_SECONDS


def test_nothing_is_started_after_the_end() -> None:
    started = threading.Event()
    made = Restarts(started.set)
    made.later(0.0)
    made.cancel()
    assert not started.wait(2 * restarts.FIRST_WAIT_SECONDS)

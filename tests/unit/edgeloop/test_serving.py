"""Verdicts on their way into the ledger."""

import logging
import threading

import pytest

from edgeloop.errors import LedgerError
from edgeloop.records import Verdict
from edgeloop.serving import VerdictWriter

WAIT_SECONDS = 30.0


def verdict(observation: int) -> Verdict:
    return Verdict(
        model="m",
        bundle_digest="0" * 64,
        at="2026-11-23T03:00:00.000000+00:00",
        observation=observation,
        detector="d",
        log_evidence=10.0,
        threshold=9.0,
        parts={},
        target_run_length=100,
        words=(),
        classes=(),
    )


class BusyLedger:
    """Refuses the first `failures` calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0
        self.stored: list[int] = []
        self.called = threading.Semaphore(0)
        self.done = threading.Semaphore(0)

    def add_verdict(self, verdict: Verdict) -> None:
        self.calls += 1
        self.called.release()
        if self.calls <= self.failures:
            raise LedgerError("database is locked")
        self.stored.append(verdict.observation)
        self.done.release()


def test_a_verdict_is_stored_once_the_ledger_has_time_again() -> None:
    ledger = BusyLedger(failures=2)
    writer = VerdictWriter(ledger.add_verdict, first_wait_seconds=0.001)
    writer.put(verdict(1))
    writer.put(verdict(2))
    assert ledger.done.acquire(timeout=WAIT_SECONDS)
    assert ledger.done.acquire(timeout=WAIT_SECONDS)
    writer.close()
    assert (ledger.stored, ledger.calls) == ([1, 2], 4)


def test_the_end_cuts_the_pause_short_and_tries_once_more() -> None:
    ledger = BusyLedger(failures=1)
    writer = VerdictWriter(ledger.add_verdict, first_wait_seconds=3600.0)
    writer.put(verdict(1))
    assert ledger.called.acquire(timeout=WAIT_SECONDS)
    writer.close(WAIT_SECONDS)
    assert ledger.stored == [1]


def test_what_the_last_try_does_not_store_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ledger = BusyLedger(failures=1000)
    writer = VerdictWriter(ledger.add_verdict, first_wait_seconds=3600.0)
    writer.put(verdict(77))
    assert ledger.called.acquire(timeout=WAIT_SECONDS)
    with caplog.at_level(logging.ERROR):
        writer.close(WAIT_SECONDS)
    assert "event=verdict_lost model=m observation=77" in caplog.text


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    ledger = BusyLedger(failures=1)
    writer = VerdictWriter(ledger.add_verdict, limit=2, first_wait_seconds=3600.0)
    writer.put(verdict(1))
    assert ledger.called.acquire(timeout=WAIT_SECONDS)
    for observation in (2, 3, 4):
        writer.put(verdict(observation))
    writer.close(WAIT_SECONDS)
    assert ledger.stored == [3, 4]

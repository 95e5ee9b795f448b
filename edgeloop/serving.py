"""Puts the server and the drift monitor together. Command: `edgeloop serve`."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from edgeloop.bundle import Bundle
from edgeloop.ledger import Ledger
from edgeloop.observer import Observer
from edgeloop.records import Verdict
from monitor.metrics import DriftCollector
from monitor.observer import DriftObserver
from serve.config import load_config
from serve.run import ServerSettings, run_server

logger = logging.getLogger(__name__)

# Which threads answer best, by machine and bundle: below $EDGELOOP_HOME.
TUNED = "autotune"
# A bundle alarms once until its traffic is quiet again: more than a few verdicts can only wait
# where the ledger is away for days.
VERDICT_LIMIT = 64
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
LAST_TRY_SECONDS = 5.0


class VerdictWriter:
    """Stores verdicts on a thread of its own, and tries again for as long as the ledger is away.

    A full queue drops its oldest verdict; every verdict that is lost is logged.
    """

    def __init__(
        self,
        store: Callable[[Verdict], None],
        limit: int = VERDICT_LIMIT,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self._store = store
        self._limit = limit
        self._first_wait_seconds = first_wait_seconds
        self._waiting: deque[Verdict] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="verdict-writer", daemon=True)
        self._thread.start()

    def put(self, verdict: Verdict) -> None:
        """Queue a verdict; returns at once."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                _log_lost(self._waiting.popleft(), "the queue is full")
            self._waiting.append(verdict)
            self._changed.notify()

    def close(self, timeout_seconds: float = LAST_TRY_SECONDS) -> None:
        """Try once more to store what waits, then stop."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            logger.error("event=verdicts_pending problem='the ledger does not answer'")

    def _work(self) -> None:
        wait_seconds = self._first_wait_seconds
        while (verdict := self._next()) is not None:
            closing = self._closing
            try:
                self._store(verdict)
            except Exception as problem:  # whatever the ledger does, the verdict is kept
                if closing:
                    _log_lost(verdict, problem)
                    continue
                logger.warning("event=verdict_waits model=%s problem=%s", verdict.model, problem)
                self._keep(verdict, wait_seconds)
                wait_seconds = min(2.0 * wait_seconds, LONGEST_WAIT_SECONDS)
            else:
                wait_seconds = self._first_wait_seconds

    def _next(self) -> Verdict | None:
        """The oldest verdict; None when closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft() if self._waiting else None

    def _keep(self, verdict: Verdict, wait_seconds: float) -> None:
        """Put it back in front, and pause; the end of the process cuts the pause short."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                _log_lost(verdict, "the queue is full")
            else:
                self._waiting.appendleft(verdict)
            self._changed.wait_for(lambda: self._closing, wait_seconds)


def _log_lost(verdict: Verdict, problem: object) -> None:
    logger.error(
        "event=verdict_lost model=%s observation=%d at=%s problem=%s",
        verdict.model,
        verdict.observation,
        verdict.at,
        problem,
    )


def serve_bundle(
    bundle: Path | None,
    follow: str | None,
    host: str,
    port: int,
    workers: int | None,
    ledger: Ledger | None,
    public_key: Path | None,
    config: Path | None,
    home: Path,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Verdicts go to the ledger, where there
    is one; what is measured of this machine is kept in `home`; with a public key only bundles that
    are signed for it are served. `config`: serve.yaml. Raises RecipeError (it, or the port),
    BundleError and LedgerError (nothing to serve)."""
    writer = None if ledger is None else VerdictWriter(ledger.add_verdict)

    def make_observer(opened: Bundle) -> Observer:
        return DriftObserver(opened)

    def on_verdict(verdict: Verdict) -> None:
        if writer is not None:
            writer.put(verdict)

    settings = ServerSettings(
        tuned=home / TUNED,
        host=host,
        port=port,
        bundle=bundle,
        follow=follow,
        ledger=ledger,
        make_observer=make_observer,
        on_verdict=on_verdict,
        make_collector=DriftCollector,
        workers=workers,
        public_key=public_key,
        config=load_config(config),
        config_path=config,
    )
    try:
        return run_server(settings)
    finally:
        if writer is not None:
            writer.close()

"""Between the answers and the drift monitor: a bounded queue with a thread of its own, so that
neither a slow monitor nor a broken one can touch a request.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from edgeloop.observer import Observation, Observer
from edgeloop.records import Verdict
from serve.metrics import ServeMetrics

logger = logging.getLogger(__name__)

FEED_LIMIT = 4096


class Feed:
    """Hands observations to one observer, in order."""

    def __init__(
        self,
        observer: Observer,
        on_verdict: Callable[[Verdict], None],
        metrics: ServeMetrics,
        limit: int = FEED_LIMIT,
    ) -> None:
        self.observer = observer
        self.verdict: Verdict | None = None
        self._on_verdict = on_verdict
        self._metrics = metrics
        self._limit = limit
        self._waiting: deque[Observation] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._errors = 0
        self._thread = threading.Thread(target=self._work, name="observer-feed", daemon=True)
        self._thread.start()

    def put(self, observation: Observation) -> None:
        """Queue an observation; where the queue is full it is dropped and counted."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._metrics.dropped.inc()
                return
            self._waiting.append(observation)
            self._changed.notify()

    def pending(self) -> int:
        """How many observations the observer has not seen yet."""
        return len(self._waiting)

    def close(self) -> None:
        """Stop after the last observation; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread after close()."""
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while (observation := self._next()) is not None:
            try:
                self._observe(observation)
            except Exception:  # whatever the monitor does, requests go on
                self._count_error()

    def _next(self) -> Observation | None:
        with self._changed:
            while not self._waiting:
                if self._closing:
                    return None
                self._changed.wait()
            return self._waiting.popleft()

    def _observe(self, observation: Observation) -> None:
        verdict = self.observer.observe(observation)
        if verdict is None:
            return
        self.verdict = verdict
        logger.warning(
            "event=drift_alarm model=%s observation=%d log_evidence=%.3f threshold=%.3f",
            verdict.model,
            verdict.observation,
            verdict.log_evidence,
            verdict.threshold,
        )
        self._on_verdict(verdict)

    def _count_error(self) -> None:
        self._metrics.monitor_errors.inc()
        self._errors += 1
        # A monitor that fails at every request must not fill the disk: 1st, 2nd, 4th, 8th ...
        if self._errors & (self._errors - 1) == 0:
            logger.exception("event=observer_failed errors=%d", self._errors)

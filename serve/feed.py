"""Between the answers and the drift monitor: a bounded queue with a thread of its own, so that
neither a slow monitor nor a broken one can touch a request. The same thread saves the monitor's
state, so that a slow disk cannot either.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable

from edgeloop.observer import Labelled, Observation, Observer
from edgeloop.records import Verdict
from serve.metrics import ServeMetrics
from serve.state import DriftFile

logger = logging.getLogger(__name__)

FEED_LIMIT = 4096
# A thread that woke for every observation would cost the requests ten times what it does.
PAUSE_SECONDS = 0.02


class Feed:
    """Hands observations to one observer, in order."""

    def __init__(
        self,
        observer: Observer,
        on_verdict: Callable[[Verdict], None],
        metrics: ServeMetrics,
        limit: int = FEED_LIMIT,
        keeper: DriftFile | None = None,
    ) -> None:
        self.observer = observer
        self.verdict: Verdict | None = None
        self._on_verdict = on_verdict
        self._metrics = metrics
        self._limit = limit
        self._waiting: deque[Observation | Labelled] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._in_hand = 0
        self._errors = 0
        self._save_failures = 0
        self._keeper = keeper
        self._unsaved = False
        self._saved_at = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="observer-feed", daemon=True)
        self._thread.start()

    def put(self, observation: Observation) -> None:
        """Queue an observation; where the queue is full it is dropped and counted."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                self._metrics.dropped.inc()
                return
            self._waiting.append(observation)
            if len(self._waiting) == 1:
                self._changed.notify()

    def put_label(self, labelled: Labelled) -> bool:
        """Queue a label, behind the observations that were there before it; False where the queue
        is full."""
        with self._changed:
            if len(self._waiting) >= self._limit:
                return False
            self._waiting.append(labelled)
            self._changed.notify()
        return True

    def restore(self) -> None:
        """Go on from the saved state, where there is one. Before the first observation."""
        if self._keeper is not None:
            self.verdict = self._keeper.restore(self.observer)

    def forget(self) -> None:
        """Save no more: the state is of a bundle that has left."""
        self._keeper = None

    def pending(self) -> int:
        """How many observations the observer has not seen yet."""
        return len(self._waiting) + self._in_hand

    def close(self) -> None:
        """Stop after the last observation; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the thread after close()."""
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while not self._finished():
            for observation in self._take():
                self._try_to_observe(observation)
                self._in_hand -= 1
            if self._unsaved and self._save_in_seconds() <= 0.0:
                self._save()
        if self._unsaved:
            self._save()

    def _finished(self) -> bool:
        with self._changed:
            return self._closing and not self._waiting

    def _take(self) -> deque[Observation | Labelled]:
        """What waits, and what comes within PAUSE_SECONDS after it; none when closed, or when the
        state is to be saved first."""
        with self._changed:
            timeout = self._save_in_seconds() if self._unsaved else None
            self._changed.wait_for(lambda: self._waiting or self._closing, timeout)
            if self._waiting:
                self._changed.wait_for(lambda: self._closing, PAUSE_SECONDS)
            taken, self._waiting = self._waiting, deque()
            self._in_hand = len(taken)
        return taken

    def _save_in_seconds(self) -> float:
        keeper = self._keeper
        due = math.inf if keeper is None else self._saved_at + keeper.seconds - time.monotonic()
        return min(max(0.0, due), threading.TIMEOUT_MAX)

    def _save(self) -> None:
        keeper = self._keeper
        self._unsaved, self._saved_at = False, time.monotonic()
        if keeper is None:
            return
        try:
            keeper.save(self.observer, self.verdict)
        except Exception:  # a full disk costs the state, not the monitor
            self._save_failures += 1
            _log_some("event=state_not_saved failures=%d", self._save_failures)

    def _try_to_observe(self, observation: Observation | Labelled) -> None:
        self._unsaved = True
        try:
            self._observe(observation)
        except Exception:  # whatever the monitor does, requests go on
            self._metrics.monitor_errors.inc()
            self._errors += 1
            _log_some("event=observer_failed errors=%d", self._errors)

    def _observe(self, observation: Observation | Labelled) -> None:
        if isinstance(observation, Labelled):
            verdict = self.observer.label(observation)
        else:
            verdict = self.observer.observe(observation)
        if verdict is None:
            return
        self.verdict = verdict
        logger.warning(
            "event=drift_alarm model=%s detector=%s observation=%d log_evidence=%.3f "
            "threshold=%.3f",
            verdict.model,
            verdict.detector,
            verdict.observation,
            verdict.log_evidence,
            verdict.threshold,
        )
        self._on_verdict(verdict)


def _log_some(message: str, count: int) -> None:
    """A monitor that fails at every request must not fill the disk: 1st, 2nd, 4th, 8th ..."""
    if count & (count - 1) == 0:
        logger.exception(message, count)

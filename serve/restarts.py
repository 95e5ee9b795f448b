"""When what has ended is started again: soon, and later each time where it keeps ending."""

import threading
from collections.abc import Callable

FIRST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 30.0
# What lived for so long was well.
WELL_SECONDS = 60.0


class Restarts:
    """Calls `start` on a thread of its own. Not thread-safe: the caller's lock is held."""

    def __init__(self, start: Callable[[], None]) -> None:
        self._start = start
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._timers: list[threading.Timer] = []

    def later(self, lived_seconds: float) -> None:
        """Start once more after a while; the last one lived for so long."""
        if lived_seconds > WELL_SECONDS:
            self._wait_seconds = FIRST_WAIT_SECONDS
        timer = threading.Timer(self._wait_seconds, self._start)
        timer.daemon = True
        self._timers = [*filter(threading.Timer.is_alive, self._timers), timer]
        timer.start()
        self._wait_seconds = min(2.0 * self._wait_seconds, LONGEST_WAIT_SECONDS)

    def cancel(self) -> None:
        """Start nothing any more."""
        for timer in self._timers:
            timer.cancel()

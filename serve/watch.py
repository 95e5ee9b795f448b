"""Files that may change while the server runs: looked at by a thread of its own, so that a hung
disk touches no request.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class FileWatch:
    """Calls `on_change` after one of the files has changed: its time, size or inode."""

    def __init__(
        self,
        paths: Sequence[Path],
        on_change: Callable[[], object],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._paths = tuple(paths)
        self._on_change = on_change
        self._look_seconds = look_seconds
        self._seen = self._look()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="file-watch", daemon=True)
        self._thread.start()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Look no more."""
        self._closing.set()
        self._thread.join(timeout_seconds)

    def _work(self) -> None:
        while not self._closing.wait(self._look_seconds):
            found = self._look()
            if found == self._seen:
                continue
            self._seen = found
            try:
                self._on_change()
            except Exception:  # the next change is looked at all the same
                logger.exception("event=reload_failed")

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_signature(path) for path in self._paths]


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino

"""Between the event loop and the capture's writer: bounded in rows and bytes, without a lock, so
that no request ever waits for the writer, whatever the disk does.

One thread puts, one takes; deque's ends are atomic, and each side writes a counter of its own.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_ROWS = 1024
MOST_BYTES = 8 * 1024 * 1024


class Ring(Generic[T]):
    """What waits for the writer."""

    def __init__(self, most_rows: int = MOST_ROWS, most_bytes: int = MOST_BYTES) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[int, T]] = deque()
        self._put_bytes = 0
        self._taken_bytes = 0

    def put(self, item: T, size_bytes: int) -> bool:
        """False where there is no room: the item is not kept."""
        held_bytes = self._put_bytes - self._taken_bytes
        if len(self._waiting) >= self._most_rows or held_bytes + size_bytes > self._most_bytes:
            return False
        self._put_bytes += size_bytes
        self._waiting.append((size_bytes, item))
        return True

    def take(self, most: int) -> list[T]:
        """Up to `most` items, oldest first."""
        taken: list[T] = []
        while self._waiting and len(taken) < most:
            size_bytes, item = self._waiting.popleft()
            self._taken_bytes += size_bytes
            taken.append(item)
        return taken

"""Numbers by row of a replay: kept in the chunks that they come in, and thinned for a plot."""

from bisect import bisect_right
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A plot shows no more; between two points the highest is kept.
MOST_POINTS = 2_000


class Series:
    """Numbers that come in chunks, to be looked up one by one."""

    def __init__(self) -> None:
        self._chunks: list[NDArray[Any]] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> float:
        number = bisect_right(self._ends, index)
        chunk = self._chunks[number]
        return float(chunk[index - self._ends[number] + len(chunk)])

    def append(self, chunk: NDArray[Any]) -> None:
        """Add a chunk's numbers."""
        self._ends.append(len(self) + len(chunk))
        self._chunks.append(chunk)

    def cut(self, length: int) -> None:
        """Leave out the last chunk's numbers beyond that length of all."""
        surplus = len(self) - length
        self._chunks[-1] = self._chunks[-1][: len(self._chunks[-1]) - surplus]
        self._ends[-1] = length

    def whole(self) -> NDArray[Any]:
        """All of them."""
        return np.concatenate(self._chunks) if self._chunks else np.empty(0)


def thinned(course: Floats) -> tuple[tuple[int, float], ...]:
    """(observation, value): all of a short course, of a long one the highest of each
    stretch."""
    width = -(-len(course) // MOST_POINTS) if len(course) else 1
    starts = range(0, len(course), width)
    peaks = [start + int(course[start : start + width].argmax()) for start in starts]
    return tuple((peak + 1, float(course[peak])) for peak in peaks)


def as_time(seconds: float) -> str | None:
    """Unix seconds in ISO 8601, UTC; None for what is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return None

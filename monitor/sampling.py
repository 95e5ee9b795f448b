"""A uniform sample of a stream of rows, of which only the sample is ever held."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Reservoir:
    """At most `size` rows, each set of so many rows equally likely: every row draws a number, the
    rows with the smallest numbers stay. Seeded: the same rows give the same sample, whatever the
    chunks. Rows are along the first axis; of texts the array's dtype is object."""

    def __init__(self, size: int, seed: int) -> None:
        self.seen = 0
        self._size = size
        self._rng = np.random.default_rng(seed)
        self._rows: NDArray[Any] | None = None
        self._drawn = np.empty(0)
        self._number = np.empty(0, dtype=np.int64)

    def add(self, rows: NDArray[Any]) -> None:
        """Take a chunk (n, ...) in order."""
        drawn = self._rng.random(len(rows))
        number = np.arange(self.seen, self.seen + len(rows))
        self.seen += len(rows)
        # Nearly all of a late chunk goes at once: only what may stay is copied.
        bound = self._drawn.max() if len(self._drawn) >= self._size else np.inf
        near = np.flatnonzero(drawn < bound)
        held = rows[near] if self._rows is None else np.concatenate([self._rows, rows[near]])
        drawn = np.concatenate([self._drawn, drawn[near]])
        kept = np.argsort(drawn, kind="stable")[: self._size]
        number = np.concatenate([self._number, number[near]])
        self._rows, self._drawn, self._number = held[kept], drawn[kept], number[kept]

    def rows(self) -> NDArray[Any]:
        """The sample, (at most size, ...), in the order of the stream."""
        return np.empty(0) if self._rows is None else self._rows[np.argsort(self._number)]

"""The last rows of traffic, as the label-free estimates see them: two bytes a row, exact sums.

A row is kept as its calibrated confidence in 1/LEVELS and whether ATC takes it for right. The sums
are whole numbers, so that a window that was saved and restored goes on bit for bit.
"""

import math

import numpy as np
from numpy.typing import NDArray

from edgeloop.observer import Estimated
from monitor.accuracy.fit import AccuracyFit

ROWS = 1_000
LEVELS = 32_767
# Fewer rows than this say too little to be shown.
LEAST_ROWS = 30


def pack(confidence: float, flag: bool) -> int:
    """A probability and a bit in 16 bits."""
    return int(confidence * LEVELS + 0.5) << 1 | flag


def unpack(packed: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The probabilities and the bits."""
    return (packed >> 1) / LEVELS, (packed & 1).astype(bool)


class Window:
    """A ring of the last ROWS rows, of `taken` in all. Not thread-safe."""

    def __init__(self, rows: int = ROWS) -> None:
        self._ring = np.zeros(rows, dtype="<u2")
        self.taken = 0
        self._above = self._sum = self._squares = 0

    def __len__(self) -> int:
        return min(self.taken, len(self._ring))

    def add(self, confidence: float, is_above: bool) -> None:
        """Take a row; the oldest leaves where the ring is full."""
        at = self.taken % len(self._ring)
        if self.taken >= len(self._ring):
            self._count(int(self._ring[at]), -1)
        packed = pack(confidence, is_above)
        self._ring[at] = packed
        self._count(packed, 1)
        self.taken += 1

    def _count(self, packed: int, times: int) -> None:
        level = packed >> 1
        self._above += times * (packed & 1)
        self._sum += times * level
        self._squares += times * level * level

    @property
    def mean(self) -> float:
        """Of the calibrated confidence; NaN without rows."""
        return self._sum / (LEVELS * len(self)) if len(self) else math.nan

    @property
    def variance(self) -> float:
        """Of the calibrated confidence, unbiased; NaN below two rows."""
        rows = len(self)
        if rows < 2:
            return math.nan
        return (self._squares - self._sum * self._sum / rows) / (LEVELS * LEVELS * (rows - 1))

    def atc(self, fit: AccuracyFit) -> Estimated | None:
        """ATC's estimate; None below LEAST_ROWS. The standard error is that of a window and a
        reference of this size without drift; what drift does to the method is not in it."""
        rows = len(self)
        if rows < LEAST_ROWS:
            return None
        share = self._above / rows
        # One row more on either side: a window without doubt is not a certain one.
        p = (self._above + 1.0) / (rows + 2.0)
        return Estimated(share, math.sqrt(p * (1.0 - p) / rows + fit.atc_variance / fit.rows))

    def cbpe(self, fit: AccuracyFit) -> Estimated | None:
        """CBPE's estimate; None below LEAST_ROWS. Standard error as of `atc`."""
        rows = len(self)
        if rows < LEAST_ROWS:
            return None
        error = math.sqrt(self.variance / rows + fit.cbpe_variance / fit.rows)
        return Estimated(self.mean, error)

    def state(self) -> tuple[int, bytes]:
        """What `restore` needs."""
        return self.taken, self._ring.tobytes()

    def restore(self, taken: int, ring: bytes) -> None:
        """Raises ValueError where the state is of another size."""
        if taken < 0 or len(ring) != self._ring.nbytes:
            raise ValueError(f"a window of {len(ring)} bytes after {taken} rows")
        self._ring = np.frombuffer(ring, dtype="<u2").copy()
        self.taken = taken
        self._above = self._sum = self._squares = 0
        for packed in self._ring[: len(self)].tolist():
            self._count(packed, 1)

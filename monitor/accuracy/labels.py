"""The last labels: each row counts once, with the label that it was given last.

Fifteen bytes a row, no id and no text: rows are told apart by the CRC-32 of their ids, which takes
a new row for a kept one about once in ten million labels.
"""

import zlib
from collections.abc import Iterator
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from edgeloop.observer import Labelled, LabelSource
from monitor.accuracy.fit import Floats
from monitor.accuracy.window import pack, unpack

ROWS = 512
SOURCES: tuple[LabelSource, ...] = get_args(LabelSource)
FEEDBACK, AUDIT, CAPTURED, CAPTURED_UNSURE = range(len(SOURCES))
# source + 1, so that 0 is an empty place.
KEPT = np.dtype([("id", "<u4"), ("packed", "<u2"), ("inclusion", "<f4"), ("source", "u1")])


class Labels:
    """A ring of the last ROWS labelled rows, of `taken` in all. Not thread-safe."""

    def __init__(self) -> None:
        self._ring = np.zeros(ROWS, dtype=KEPT)
        self._numbers = np.full(ROWS, -1, dtype="<i4")
        self.taken = 0

    def __len__(self) -> int:
        return min(self.taken, ROWS)

    def find(self, row_id: str) -> int | None:
        """Where a row is kept; None where it is not."""
        there = np.flatnonzero((self._ring["id"] == _hash(row_id)) & (self._ring["source"] > 0))
        return int(there[0]) if len(there) else None

    def add(self, labelled: Labelled, confidence: float, number: int) -> None:
        """Keep a row under a number of the caller's, -1 for none; the oldest leaves where there
        are too many."""
        at = self.taken % ROWS
        source = SOURCES.index(labelled.source) + 1
        packed = pack(confidence, labelled.right)
        self._ring[at] = (_hash(labelled.id), packed, labelled.inclusion_probability, source)
        self._numbers[at] = number
        self.taken += 1

    def correct(self, at: int, right: bool) -> int | None:
        """Let a kept row be right or wrong; its number, None where it was so already."""
        packed = int(self._ring["packed"][at])
        if bool(packed & 1) == right:
            return None
        self._ring["packed"][at] = packed ^ 1
        return int(self._numbers[at])

    def judged(self) -> tuple[Floats, NDArray[np.bool_]]:
        """Calibrated confidence, and whether it was right, of every row but those that were drawn
        for being unsure: (n,) each."""
        kept = self._ring[: len(self)]
        return unpack(kept["packed"][kept["source"] != CAPTURED_UNSURE + 1])

    def audit(self) -> tuple[Floats, Floats, Floats]:
        """right, confidence and weight of the rows that were drawn with a known probability: (n,)
        each. Weights have the mean 1 within a way of drawing, whatever the share that it drew."""
        kept = self._ring[: len(self)]
        parts = [_weighted(kept[rows]) for rows in _draws(kept["source"].astype(int) - 1)]
        right, confidence, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        return right, confidence, weight

    def state(self) -> tuple[int, bytes, bytes]:
        """What `restore` needs."""
        return self.taken, self._ring.tobytes(), self._numbers.tobytes()

    def restore(self, taken: int, ring: bytes, numbers: bytes) -> None:
        """Raises ValueError where it is no state of this."""
        found = np.frombuffer(ring, dtype=KEPT).copy()
        known = np.frombuffer(numbers, dtype="<i4").copy()
        if taken < 0 or len(found) != ROWS or len(known) != ROWS:
            raise ValueError(f"{len(ring)} bytes of labels after {taken}")
        if found["source"].max() > len(SOURCES):
            raise ValueError("labels of an unknown source")
        self._ring, self._numbers, self.taken = found, known, taken


def _draws(source: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Which rows were drawn each way."""
    yield source == AUDIT
    yield (source == CAPTURED) | (source == CAPTURED_UNSURE)


def _weighted(kept: NDArray[np.void]) -> tuple[Floats, Floats, Floats]:
    confidence, right = unpack(kept["packed"])
    weight = 1.0 / kept["inclusion"].astype(np.float64)
    return right.astype(np.float64), confidence, weight / weight.mean() if len(weight) else weight


def _hash(row_id: str) -> int:
    return zlib.crc32(row_id.encode())

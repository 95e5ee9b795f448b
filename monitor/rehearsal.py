"""The drift detector over stored rows, many at a time: the same alarms as Detector.update would
raise on the same rows, bit for bit, at a fraction of its time per row.

Scores come from matrix products over a chunk of rows. Such a product may differ from the product of
a single row in its last bits, so that a row whose novelty is that near to a threshold is scored by
itself, as the detector does it. Only the recursion of the evidence goes row by row.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from monitor.detector import Alarm
from monitor.eprocess import MEMBERS, PARTS, Floats, advance, payoffs, tail_levels
from monitor.fit import Fitted
from monitor.geometry import SMALLEST_NORM, Vectors
from monitor.observer import ONSET_RATIO, ORDINARY_LOG_EVIDENCE

# Rows whose evidence is held at a time; an alarm throws away what was computed behind it.
BLOCK_ROWS = 256
# np.log and math.log may differ in the last bit: only near the threshold that matters.
LOG_SLACK = 1e-9


@dataclass(frozen=True)
class Rehearsed:
    """An alarm with where the drift seems to have begun: observations count from 1, `onset` is that
    of the first row after the evidence was last no higher than without drift."""

    alarm: Alarm
    onset: int


@dataclass(frozen=True)
class Taken:
    """What came of a chunk: log evidence after each row that was not skipped, the places of those
    rows in the chunk, and the alarms."""

    log_evidence: Floats
    places: NDArray[np.int64]
    alarms: tuple[Rehearsed, ...]


class Rehearsal:
    """One pass over stored rows in order. `threshold`: on the log evidence; None raises no alarm.
    Where `restart`, evidence begins anew after an alarm, else no second one follows."""

    def __init__(self, fitted: Fitted, threshold: float | None, restart: bool = False) -> None:
        self.fitted = fitted
        self.threshold = threshold
        self.observations = 0
        self.skipped = 0
        self.alarms = 0
        self._restart = restart
        self._ordinary = max(ONSET_RATIO * (threshold or 0.0), ORDINARY_LOG_EVIDENCE)
        self._last_low = 0
        self._table = payoffs(fitted.tails.rates)
        self._evidence = np.zeros((len(PARTS), MEMBERS))

    def take(self, embeddings: Vectors, probabilities: Floats) -> Taken:
        """Embeddings (n, hidden) and probabilities (n, classes); rows that are not finite are
        counted and skipped. Raises DatasetError where the embeddings have another length than the
        reference's."""
        hidden = self.fitted.centroids.shape[1]
        if embeddings.ndim != 2 or embeddings.shape[1] != hidden:
            raise DatasetError(
                f"embeddings of shape {embeddings.shape} do not fit a reference of {hidden} "
                "numbers per row; they must be this bundle's model's own"
            )
        novelty, finite = _novelty(embeddings, self.fitted)
        scores = np.stack([novelty, -probabilities.max(axis=1)], axis=1)
        finite &= np.isfinite(scores).all(axis=1)
        self.skipped += int(len(finite) - finite.sum())
        levels = tail_levels(scores[finite], self.fitted.tails.thresholds)
        return self.take_levels(levels, np.flatnonzero(finite))

    def take_levels(self, levels: NDArray[np.uint8], places: NDArray[np.int64]) -> Taken:
        """The rows' tail levels (n, parts)."""
        logs = np.empty(len(levels))
        alarms: list[Rehearsed] = []
        done = 0
        while done < len(levels):
            block = slice(done, min(done + BLOCK_ROWS, len(levels)))
            used, alarm = self._advance(levels[block], logs[block])
            done += used
            if alarm is not None:
                alarms.append(alarm)
        return Taken(logs, places, tuple(alarms))

    @property
    def log_evidence(self) -> float:
        """As Detector.log_evidence."""
        return _log(self._evidence)

    def _advance(self, levels: NDArray[np.uint8], logs: Floats) -> tuple[int, Rehearsed | None]:
        """Rows until an alarm that begins anew, or all; their log evidence goes to `logs`."""
        earned = self._table[np.arange(len(PARTS)), levels]  # (rows, parts, members)
        course = np.empty_like(earned)
        for row, own in enumerate(earned):
            advance(self._evidence, own)
            course[row] = self._evidence
        logs[:] = np.log(course.reshape(len(levels), -1).mean(axis=1))
        place = self._crossing(course, logs)
        used = len(levels) if place is None or not self._restart else place + 1
        rehearsed = None if place is None else self._alarm(place, course[place], logs)
        self._note_low(logs[:used])
        self.observations += used
        if rehearsed is not None and self._restart:
            self._evidence[:] = 0.0
            self._last_low = self.observations
        return used, rehearsed

    def _crossing(self, course: Floats, logs: Floats) -> int | None:
        if self.threshold is None or (self.alarms and not self._restart):
            return None
        for place in np.flatnonzero(logs >= self.threshold - LOG_SLACK):
            if _log(course[place]) >= self.threshold:
                return int(place)
        return None

    def _alarm(self, place: int, evidence: Floats, logs: Floats) -> Rehearsed:
        self.alarms += 1
        low = np.flatnonzero(logs[: place + 1] <= self._ordinary)
        last_low = self.observations + int(low[-1]) + 1 if low.size else self._last_low
        parts = {name: _log(own) for name, own in zip(PARTS, evidence, strict=True)}
        alarm = Alarm(self.observations + place + 1, _log(evidence), parts)
        return Rehearsed(alarm, min(last_low + 1, alarm.observation))

    def _note_low(self, logs: Floats) -> None:
        low = np.flatnonzero(logs <= self._ordinary)
        if low.size:
            self._last_low = self.observations + int(low[-1]) + 1


def _log(evidence: Floats) -> float:
    """As the detector has it, to the last bit."""
    mean = float(evidence.mean())
    return math.log(mean) if mean > 0.0 else 0.0


def _novelty(embeddings: Vectors, fitted: Fitted) -> tuple[Floats, NDArray[np.bool_]]:
    """The novelty of each row, equal to the detector's wherever a threshold might tell them apart,
    and which rows are finite."""
    centroids = fitted.centroids
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", embeddings, embeddings)
        norms = np.sqrt(squares.astype(np.float64))
        finite = np.isfinite(norms)
        best = (embeddings @ centroids.T).max(axis=1).astype(np.float64)
        novelty: Floats = 1.0 - best / np.maximum(norms, SMALLEST_NORM)
    # Twice what two sums of so many products can differ by, each rounded in any order.
    slack = 4.0 * embeddings.shape[1] * float(np.finfo(np.float32).eps)
    near = (np.abs(novelty[:, None] - fitted.tails.thresholds[0]) <= slack).any(axis=1) & finite
    for row in np.flatnonzero(near):
        own = embeddings[row]
        norm = math.sqrt(float(own @ own))
        novelty[row] = 1.0 - float((centroids @ own).max()) / max(norm, SMALLEST_NORM)
    return novelty, finite

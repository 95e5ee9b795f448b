"""The drift detector over stored rows, a block at a time: the alarms that Detector.update would
raise on the same rows, at a fraction of its time per row.

What a row is compared with is at least LAG rows old, so that LAG rows are scored at once, as the
simulation of the threshold does it; only the recursion of the evidence goes row by row. Sums in
another order differ in their last bits: log evidence is within TOLERANCE of the detector's, and so
an alarm is raised at the same row wherever the evidence is not that near to the threshold. A row
whose novelty is that near to a tail's threshold is scored by itself.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from monitor import class_mix, neighbours, tails, witness
from monitor.detector import Alarm, Detector
from monitor.eprocess import advance, member_powers, member_weights
from monitor.fit import Fitted
from monitor.geometry import SMALLEST_NORM, Vectors
from monitor.witness import LAG

Floats = NDArray[np.float64]
Kinds = NDArray[np.intp]

# Of the log evidence, against Detector's; on 20,000 rows of 384 numbers it was 5e-7.
TOLERANCE = 1e-4
# Drift is taken to have begun when the evidence was last no higher than without drift: half of the
# threshold, or the level that it wanders about anyway.
ONSET_RATIO = 0.5
ORDINARY_LOG_EVIDENCE = 4.0


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


@dataclass(frozen=True)
class _Scores:
    """Rows as the detector sees them: whitened (n, components), which tail thresholds they exceed
    (tail parts, shares, n), kinds (n,)."""

    z: Vectors
    exceeded: NDArray[np.bool_]
    kinds: Kinds

    def part(self, start: int, stop: int) -> "_Scores":
        return _Scores(self.z[start:stop], self.exceeded[..., start:stop], self.kinds[start:stop])


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
        self._run = _Run(fitted)
        self._weights = member_weights(fitted.parts)

    def take(self, embeddings: Vectors, probabilities: Floats) -> Taken:
        """Embeddings (n, hidden) and probabilities (n, classes); rows that are not finite are
        counted and skipped. Raises DatasetError where they have another length than the
        reference's."""
        _check(embeddings, probabilities, self.fitted)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", embeddings, embeddings)
        finite = np.isfinite(squares) & np.isfinite(probabilities.max(axis=1))
        self.skipped += int(len(finite) - finite.sum())
        scores = _score(embeddings[finite], probabilities[finite], self.fitted)
        logs = np.empty(len(scores.kinds))
        alarms: list[Rehearsed] = []
        done = 0
        while done < len(logs):
            length = min(self._run.room, len(logs) - done)
            used, alarm = self._block(scores.part(done, done + length), logs[done : done + length])
            done += used
            alarms += [] if alarm is None else [alarm]
        return Taken(logs, np.flatnonzero(finite), tuple(alarms))

    def _block(self, scores: _Scores, logs: Floats) -> tuple[int, Rehearsed | None]:
        """Rows until an alarm that begins anew, or all; their log evidence goes to `logs`."""
        block = self._run.advance(scores)
        means = block.course[:, : len(self._weights)] @ self._weights
        logs[:] = np.log(np.where(means > 0.0, means, 1.0))
        place = self._crossing(logs)
        rehearsed = None if place is None else self._alarm(place, block, logs)
        used = len(logs) if place is None or not self._restart else place + 1
        low = np.flatnonzero(logs[:used] <= self._ordinary)
        if low.size:
            self._last_low = self.observations + int(low[-1]) + 1
        self.observations += used
        if rehearsed is not None and self._restart:
            self._run = _Run(self.fitted)
            self._last_low = self.observations
        return used, rehearsed

    def _crossing(self, logs: Floats) -> int | None:
        if self.threshold is None or (self.alarms and not self._restart):
            return None
        crossed = np.flatnonzero(logs >= self.threshold)
        return int(crossed[0]) if crossed.size else None

    def _alarm(self, place: int, block: "_Block", logs: Floats) -> Rehearsed:
        self.alarms += 1
        low = np.flatnonzero(logs[: place + 1] <= self._ordinary)
        last_low = self.observations + int(low[-1]) + 1 if low.size else self._last_low
        detector = block.detector_at(place, self.fitted)
        observation = self.observations + place + 1
        advisory = not self.fitted.armed or detector.burst_evidence_ratio >= 1.0
        alarm = Alarm(
            observation, float(logs[place]), detector.parts, detector.effect_size, advisory
        )
        return Rehearsed(alarm, min(last_low + 1, observation))


@dataclass(frozen=True)
class _Block:
    """The evidence of all members and of the bursts' after each row (rows, members + bursts'), the
    slowest direction before the first row and after each (1 + rows, components), and how many rows
    had been since the reset before."""

    course: Floats
    slowest: Vectors
    since_reset: int

    def detector_at(self, place: int, fitted: Fitted) -> Detector:
        """A detector that has just taken that row, to be asked about its evidence."""
        detector = Detector(fitted)
        memory = detector.memory
        members = len(memory.evidence)
        memory.evidence = self.course[place, :members]
        memory.bursts = self.course[place, members:].tolist()
        memory.directions[-1] = self.slowest[place + 1]
        memory.since_reset = self.since_reset + place + 1
        return detector


class _Run:
    """The evidence since the last reset, in blocks of at most `room` rows."""

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        effects = dict(zip(fitted.parts, fitted.design_effects, strict=True))
        components = len(fitted.whitening.projection)
        self._margin = witness.margins(components, fitted.rows / effects["witness"])
        self._ratios = class_mix.ratios(fitted.kind_counts)
        worth = fitted.rows / effects.get("class_mix", 1.0)
        self._discount = class_mix.discounts(len(self._ratios), worth)
        self._powers = member_powers(fitted.parts, fitted.design_effects)[:, None]
        self._watches_classes = "class_mix" in fitted.parts
        self._rows = 0
        self._evidence = np.zeros(len(self._powers) + neighbours.MEMBERS)
        self._directions = np.zeros((len(witness.RATES), components), dtype=np.float32)
        # The last LAG rows, the oldest first.
        self._olds = np.zeros((LAG, components), dtype=np.float32)
        self._old_kinds: Kinds = np.zeros(LAG, dtype=np.intp)
        self._mix = np.repeat(self._ratios[None, None], len(class_mix.RATES), axis=0)

    @property
    def room(self) -> int:
        """Rows before LAG have nothing to be compared with: they are blocks of their own."""
        return LAG - self._rows if self._rows < LAG else LAG

    def advance(self, scores: _Scores) -> _Block:
        """Take a block."""
        begun = self._rows >= LAG
        rolled = self._roll(len(scores.kinds)) if begun else self._still(len(scores.kinds))
        earned = [witness.payoffs(rolled[:, :-1], scores.z, self._margin)]
        for exceeded, rates in zip(scores.exceeded, self._fitted.tails.rates, strict=True):
            earned.append(tails.payoffs(exceeded, rates[:, None]))
        if self._watches_classes:
            earned.append(self._class_mix(scores.kinds, begun))
        bets: Floats = np.concatenate(earned, dtype=np.float64)
        if np.any(self._powers != 1.0):
            bets **= self._powers
        course = self._accumulate(bets, self._bursts(scores.kinds), begun)
        block = _Block(course, rolled[-1], self._rows)
        self._directions = rolled[:, -1]
        self._remember(scores)
        return block

    def _still(self, rows: int) -> Vectors:
        return np.repeat(self._directions[:, None], rows + 1, axis=1)

    def _roll(self, rows: int) -> Vectors:
        """The moving averages before the first row and after each: (rates, 1 + rows, comp.)."""
        rolled = [
            witness.roll_block(direction[None], self._olds[:, None], rate)[: rows + 1, 0]
            for rate, direction in enumerate(self._directions)
        ]
        return np.stack(rolled)

    def _class_mix(self, kinds: Kinds, begun: bool) -> NDArray[np.floating]:
        ratio = self._ratios[kinds]
        if not begun:
            recent = self._mix[:, 0, kinds]
        else:
            padded = np.zeros(LAG, dtype=np.intp)
            padded[: len(kinds)] = kinds
            olds = self._old_kinds[:, None]
            recent = class_mix.recent_block(self._mix, olds, padded[:, None])[:, : len(kinds), 0]
            if len(kinds) == LAG:
                class_mix.roll_block(self._mix, olds)
            else:
                for old in self._old_kinds[: len(kinds)]:
                    class_mix.roll(self._mix[:, 0], int(old))
        return class_mix.payoffs(recent, ratio, self._discount)

    def _bursts(self, kinds: Kinds) -> Floats:
        """What the bets on bursts earn, (members, rows); they count from LAG rows on."""
        before = np.concatenate([self._old_kinds[-1:], kinds[:-1]])
        far = kinds == self._old_kinds[: len(kinds)]
        difference = (kinds == before).astype(np.float64) - far - self._fitted.neighbour_excess
        earned: Floats = np.maximum(1.0 + np.array(neighbours.BETS)[:, None] * difference, 0.0)
        return earned

    def _accumulate(self, bets: Floats, bursts: Floats, begun: bool) -> Floats:
        earned = np.ascontiguousarray(np.concatenate([bets, bursts]).T)
        course = np.empty_like(earned)
        moving = self._evidence if begun else self._evidence[: len(bets)]
        for row, own in enumerate(earned):
            advance(moving, own[: len(moving)])
            course[row] = self._evidence
        return course

    def _remember(self, scores: _Scores) -> None:
        rows = len(scores.kinds)
        self._olds = np.concatenate([self._olds[rows:], scores.z])
        self._old_kinds = np.concatenate([self._old_kinds[rows:], scores.kinds])
        self._rows += rows


def _check(embeddings: Vectors, probabilities: Floats, fitted: Fitted) -> None:
    hidden, classes = fitted.centroids.shape[1], len(fitted.kind_of_class)
    if embeddings.ndim != 2 or embeddings.shape[1] != hidden:
        raise DatasetError(
            f"embeddings of shape {embeddings.shape} do not fit a reference of {hidden} numbers "
            "per row; they must be this bundle's model's own"
        )
    if probabilities.shape != (len(embeddings), classes):
        raise DatasetError(
            f"probabilities of shape {probabilities.shape} do not fit {len(embeddings)} rows of a "
            f"reference of {classes} classes; they must be this bundle's model's own"
        )


def _score(embeddings: Vectors, probabilities: Floats, fitted: Fitted) -> _Scores:
    norms = np.sqrt(np.einsum("ij,ij->i", embeddings, embeddings).astype(np.float64))
    unit = embeddings / np.maximum(norms, SMALLEST_NORM).astype(np.float32)[:, None]
    projection, thresholds = fitted.whitening.projection, fitted.tails.thresholds
    both = np.concatenate([projection, fitted.centroids])
    seen = unit @ both.T
    best = seen[:, len(projection) :].max(axis=1, initial=-np.inf).astype(np.float64)
    # Twice what two sums of so many products can differ by, each rounded in any order.
    slack = 4.0 * embeddings.shape[1] * float(np.finfo(np.float32).eps)
    for row in np.flatnonzero((np.abs(1.0 - best[:, None] - thresholds[0]) <= slack).any(axis=1)):
        seen[row] = _alone(embeddings[row], both)
        best[row] = float(seen[row, len(projection) :].max())
    scores = np.stack([1.0 - best, -probabilities.max(axis=1)])[: len(thresholds)]
    one_class = len(fitted.kind_of_class) == 1
    kinds = (
        seen[:, len(projection) :].argmax(axis=1)
        if one_class
        else fitted.kind_of_class[probabilities.argmax(axis=1)]
    )
    return _Scores(
        z=seen[:, : len(projection)] - projection @ fitted.whitening.mean,
        exceeded=scores[:, None] > thresholds[..., None],
        kinds=kinds.astype(np.intp),
    )


def _alone(embedding: NDArray[np.float32], both: Vectors) -> Vectors:
    """As the detector does it, to the last bit."""
    norm = math.sqrt(float(embedding @ embedding))
    placed: Vectors = both @ (embedding / np.float32(max(norm, SMALLEST_NORM)))
    return placed

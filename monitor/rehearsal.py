"""The drift detectors over stored rows, a block at a time: the alarms that Detector.update and
Secondary.update would raise on the same rows, at a fraction of their time per row.

What a row is compared with is at least LAG rows old, so that LAG rows are scored at once, as the
simulation of the threshold does it; only the recursion of the evidence goes row by row. Sums in
another order differ in their last bits: log evidence is within TOLERANCE of the detector's, and so
an alarm is raised at the same row wherever the evidence is not that near to the threshold. A row
whose novelty is that near to a tail's threshold is scored by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor import class_mix, neighbours, tails, witness
from monitor.detector import Alarm, Detector
from monitor.eprocess import advance, member_powers, member_weights
from monitor.fit import Fitted
from monitor.geometry import Vectors
from monitor.onset import KEPT_ROWS, rows_since_onset
from monitor.rehearsal_rows import RowScores, check_rows, score_rows
from monitor.secondary import Scale, Secondary, levels_of
from monitor.thresholds import Limits
from monitor.witness import LAG

Floats = NDArray[np.float64]
Kinds = NDArray[np.intp]

# Of the log evidence, against Detector's; on 20,000 rows of 384 numbers it was 5e-7.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Rehearsed:
    """An alarm of any detector, with the secondary ones' log evidence (features,) at its row, and
    where the drift seems to have begun: observations count from 1."""

    alarm: Alarm
    secondary: Floats
    onset: int


@dataclass(frozen=True)
class Taken:
    """What came of a chunk: after each row that was not skipped the primary's log evidence and the
    highest evidence of all detectors over its threshold, (rows,); the places of those rows in the
    chunk, and the alarms."""

    log_evidence: Floats
    ratios: Floats
    places: NDArray[np.int64]
    alarms: tuple[Rehearsed, ...]


class Rehearsal:
    """One pass over stored rows in order. Where `restart`, all detectors begin anew after an alarm
    of any, else no second alarm follows."""

    def __init__(
        self, fitted: Fitted, limits: Limits, scales: Sequence[Scale], restart: bool = False
    ) -> None:
        """`scales`: of the secondary detectors."""
        self.fitted = fitted
        self.limits = limits
        self.observations = 0
        self.skipped = 0
        self.alarms = 0
        self._restart = restart
        self._run = _Run(fitted)
        self._weights = member_weights(fitted.parts)
        self._secondary = Secondary(scales)
        # The ratios of the last rows since the detectors began.
        self._path = np.empty(0, dtype=np.float32)

    def take(
        self, embeddings: Vectors, probabilities: Floats, features: Floats | None = None
    ) -> Taken:
        """Embeddings (n, hidden), probabilities (n, classes) and features (n, features without the
        class mix); without features the secondary detectors leave the rows out. Rows that are not
        finite are counted and skipped. Raises DatasetError where embeddings or probabilities have
        another length than the reference's."""
        check_rows(embeddings, probabilities, self.fitted)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", embeddings, embeddings)
        finite = np.isfinite(squares) & np.isfinite(probabilities.max(axis=1))
        self.skipped += int(len(finite) - finite.sum())
        scores = score_rows(embeddings[finite], probabilities[finite], self.fitted)
        levels = None
        if features is not None:
            levels = self._levels(features[finite], probabilities[finite])
        logs, ratios = np.empty((2, len(scores.kinds)))
        alarms: list[Rehearsed] = []
        done = 0
        while done < len(logs):
            stop = done + min(self._run.room, len(logs) - done)
            own = None if levels is None else levels[done:stop]
            block = self._block(scores.part(done, stop), own)
            used = len(block.logs)
            logs[done : done + used], ratios[done : done + used] = block.logs, block.ratios
            done += used
            alarms += [] if block.alarm is None else [block.alarm]
        return Taken(logs, ratios, np.flatnonzero(finite), tuple(alarms))

    def _levels(self, features: Floats, probabilities: Floats) -> NDArray[np.uint8]:
        scales = self._secondary.scales
        if features.shape[1] < len(scales):
            features = np.column_stack([features, probabilities.argmax(axis=1)])
        return levels_of(scales, features)

    def _block(self, scores: RowScores, levels: NDArray[np.uint8] | None) -> "_Judged":
        """Rows until an alarm that begins anew, or all."""
        block = self._run.advance(scores)
        means = block.course[:, : len(self._weights)] @ self._weights
        logs = np.log(np.where(means > 0.0, means, 1.0))
        if levels is None:
            secondary = np.repeat(self._secondary.log_evidence[None], len(logs), axis=0)
        else:
            secondary = self._secondary.update_block(levels)
        highest = secondary.max(axis=1)
        limits = self.limits
        ratios = np.maximum(_ratios(logs, limits.primary), _ratios(highest, limits.secondary))
        place = self._crossing(logs, highest)
        alarm = None
        if place is not None:
            alarm = self._alarm(place, block, float(logs[place]), secondary[place], ratios)
        used = len(logs) if place is None or not self._restart else place + 1
        self._go_on(used, ratios, begins_anew=alarm is not None and self._restart)
        return _Judged(logs[:used], ratios[:used], alarm)

    def _go_on(self, used: int, ratios: Floats, begins_anew: bool) -> None:
        self.observations += used
        self._path = self._path_to(ratios[:used])
        if begins_anew:
            self._run = _Run(self.fitted)
            self._secondary.reset()
            self._path = self._path[:0]

    def _path_to(self, ratios: Floats) -> NDArray[np.float32]:
        return np.concatenate([self._path, ratios.astype(np.float32)])[-KEPT_ROWS:]

    def _crossing(self, logs: Floats, highest: Floats) -> int | None:
        if self.alarms and not self._restart:
            return None
        limits = self.limits
        crossed = (logs >= limits.primary) & limits.primary_alarms
        crossed |= (highest >= limits.secondary) & limits.secondary_alarms
        return int(crossed.argmax()) if crossed.any() else None

    def _alarm(
        self, place: int, block: "_Block", log_evidence: float, secondary: Floats, ratios: Floats
    ) -> Rehearsed:
        self.alarms += 1
        detector = block.detector_at(place, self.fitted)
        observation = self.observations + place + 1
        advisory = not self.fitted.armed or detector.burst_evidence_ratio >= 1.0
        alarm = Alarm(observation, log_evidence, detector.parts, detector.effect_size, advisory)
        since = rows_since_onset(self._path_to(ratios[: place + 1]))
        return Rehearsed(alarm, secondary.copy(), observation - max(since, 1) + 1)


def _ratios(logs: Floats, threshold: float) -> Floats:
    return logs / threshold if threshold > 0.0 else np.zeros_like(logs)


@dataclass(frozen=True)
class _Judged:
    """The rows of a block that count: the primary's log evidence, the highest ratios, (rows,), and
    the alarm among them."""

    logs: Floats
    ratios: Floats
    alarm: Rehearsed | None


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

    def advance(self, scores: RowScores) -> _Block:
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

    def _remember(self, scores: RowScores) -> None:
        rows = len(scores.kinds)
        self._olds = np.concatenate([self._olds[rows:], scores.z])
        self._old_kinds = np.concatenate([self._old_kinds[rows:], scores.kinds])
        self._rows += rows

"""A bundle's drift detector over scored rows without a server: what would have alarmed, when, on
what evidence. Commands: `edgeloop monitor replay --bundle`, `edgeloop monitor report`.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.errors import DatasetError
from edgeloop.records import Movement, Verdict
from edgeloop.rows import whole_text
from monitor.reference import load_reference
from monitor.rehearsal import Rehearsal, Rehearsed
from monitor.scored import Scored
from monitor.thresholds import trial_threshold
from monitor.words import RECENT_ROWS, moved_classes, risen_words, words_of

Floats = NDArray[np.float64]

# A plot shows no more; between two points the highest evidence is kept.
MOST_POINTS = 2_000
# Later alarms of the same file are told without what moved.
MOST_EXPLAINED = 50
# Shares of fewer rows than this say little, however fast the alarm came.
LEAST_EXPLAINED_ROWS = 20
DETECTOR = "mixture"


@dataclass(frozen=True)
class OfflineAlarm:
    """`row` and `onset_row` count all rows from 1, `observation` those that were not skipped;
    `requests`: how many requests there were until then, estimated where only a sample was kept;
    `time`: of the row, None where it has none."""

    row: int
    observation: int
    onset_row: int
    requests: float
    id: str
    time: str | None
    onset_time: str | None
    log_evidence: float
    parts: dict[str, float]
    effect_size: float
    advisory: bool
    words: tuple[Movement, ...]
    classes: tuple[Movement, ...]


@dataclass(frozen=True)
class OfflineResult:
    """What came of a replay. Where `may_alarm` is false the reference is not armed and no other
    threshold was asked for; `evidence` is (observation, log evidence), thinned to MOST_POINTS;
    `accuracy` over rows with a label."""

    rows: int
    skipped: int
    requests: float
    accuracy: float | None
    labelled: int
    armed: bool
    reason: str
    may_alarm: bool
    threshold: float
    threshold_source: str
    target_run_length: int
    log_evidence: float
    alarms: tuple[OfflineAlarm, ...]
    evidence: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Settings:
    """`restart`: go on after an alarm with no evidence; `stop_at_alarm`: read no further."""

    target_run_length: int | None = None
    restart: bool = False
    stop_at_alarm: bool = False


class _Series:
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
        self._ends.append(len(self) + len(chunk))
        self._chunks.append(chunk)

    def cut(self, length: int) -> None:
        """Leave out the last chunk's numbers beyond that length of all."""
        surplus = len(self) - length
        self._chunks[-1] = self._chunks[-1][: len(self._chunks[-1]) - surplus]
        self._ends[-1] = length

    def whole(self) -> NDArray[Any]:
        return np.concatenate(self._chunks) if self._chunks else np.empty(0)


class Offline:
    """One pass. After each chunk `finished` tells whether more is wanted."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Raises MonitorError where the bundle's reference does not load."""
        self.reference = load_reference(bundle.file(REFERENCE))
        self.trial = trial_threshold(self.reference.fitted, settings.target_run_length)
        self._rehearsal = Rehearsal(self.reference.fitted, self.trial.threshold, settings.restart)
        self._settings = settings
        self._alarms: list[OfflineAlarm] = []
        self._rows = 0
        self._requests = 0.0
        self._right = self._labelled = self._skipped_behind = 0
        self._course, self._row_of, self._times = _Series(), _Series(), _Series()
        self._texts: list[Any] = []
        self._predicted: list[int] = []

    @property
    def finished(self) -> bool:
        """An alarm came that ends the replay."""
        return bool(self._alarms) and self._settings.stop_at_alarm

    def take(self, chunk: Scored) -> int:
        """Take a chunk; returns how many of its rows were used."""
        taken = self._rehearsal.take(chunk.embeddings, chunk.probabilities)
        seen = chunk.at(taken.places)
        before = len(self._course)
        self._course.append(taken.log_evidence)
        self._row_of.append(taken.places + self._rows + 1)
        self._times.append(seen.times)
        self._predicted += seen.probabilities.argmax(axis=1).tolist()
        self._texts += [] if seen.texts is None else list(seen.texts)
        for rehearsed in taken.alarms:
            self._alarms.append(self._alarm(rehearsed, seen, before))
            if self.finished:
                return self._cut(chunk, rehearsed, before)
        self._forget()
        return self._count(chunk, len(chunk))

    def _cut(self, chunk: Scored, rehearsed: Rehearsed, before: int) -> int:
        """Leave out what comes after the alarm that ends the replay."""
        used = int(self._row_of[rehearsed.alarm.observation - 1]) - self._rows
        self._course.cut(rehearsed.alarm.observation)
        self._skipped_behind = int(len(chunk) - used) - (
            len(self._row_of) - rehearsed.alarm.observation
        )
        return self._count(chunk.at(slice(0, used)), used)

    def _count(self, chunk: Scored, used: int) -> int:
        self._rows += used
        if used:
            self._requests = float(chunk.requests[-1])
        known = ~np.isnan(chunk.right)
        self._labelled += int(known.sum())
        self._right += int(chunk.right[known].sum())
        return used

    def _forget(self) -> None:
        del self._predicted[:-RECENT_ROWS], self._texts[:-RECENT_ROWS]

    def _alarm(self, rehearsed: Rehearsed, seen: Scored, before: int) -> OfflineAlarm:
        alarm = rehearsed.alarm
        place = alarm.observation - before - 1
        words, classes = self._moved(rehearsed)
        return OfflineAlarm(
            row=int(self._row_of[alarm.observation - 1]),
            observation=alarm.observation,
            onset_row=int(self._row_of[rehearsed.onset - 1]),
            requests=float(seen.requests[place]),
            id=str(seen.ids[place]),
            time=as_time(self._times[alarm.observation - 1]),
            onset_time=as_time(self._times[rehearsed.onset - 1]),
            log_evidence=alarm.log_evidence,
            parts=alarm.parts,
            effect_size=alarm.effect_size,
            advisory=alarm.advisory,
            words=words,
            classes=classes,
        )

    def _moved(self, rehearsed: Rehearsed) -> tuple[tuple[Movement, ...], tuple[Movement, ...]]:
        """Words and classes of the rows since the onset, RECENT_ROWS at most."""
        if len(self._alarms) >= MOST_EXPLAINED:
            return (), ()
        alarm, known = rehearsed.alarm, self.reference
        explained = max(alarm.observation - rehearsed.onset + 1, LEAST_EXPLAINED_ROWS)
        # Rows of this chunk may come after the alarm.
        end = len(self._predicted) - (len(self._course) - alarm.observation)
        start = max(end - min(explained, RECENT_ROWS), 0)
        texts = [whole_text(text) for text in self._texts[start:end]]
        words = Counter(word for text in texts for word in words_of(text))
        classes = Counter(self._predicted[start:end])
        return (
            risen_words(words, max(len(texts), 1), known.words, known.fitted.rows),
            moved_classes(classes, end - start, known.class_counts, known.labels),
        )

    def result(self) -> OfflineResult:
        """The counts. Raises DatasetError where no row could be read."""
        fitted = self.reference.fitted
        if self._rows and self._rehearsal.observations == 0:
            raise DatasetError(
                f"all {self._rows} rows hold numbers that are not finite; nothing was replayed"
            )
        course = self._course.whole()
        return OfflineResult(
            rows=self._rows,
            skipped=self._rehearsal.skipped - self._skipped_behind,
            requests=self._requests,
            accuracy=self._right / self._labelled if self._labelled else None,
            labelled=self._labelled,
            armed=fitted.armed,
            reason=fitted.reason,
            may_alarm=self.trial.threshold is not None,
            threshold=fitted.threshold if self.trial.threshold is None else self.trial.threshold,
            threshold_source=self.trial.source,
            target_run_length=self.trial.target_run_length,
            log_evidence=float(course[-1]) if len(course) else 0.0,
            alarms=tuple(self._alarms),
            evidence=thinned(course),
        )


def replay_offline(
    chunks: Iterable[Scored],
    bundle: Bundle,
    settings: Settings,
    progress: Callable[[int], None],
) -> OfflineResult:
    """All chunks, or until an alarm where the settings say so; `progress` gets the rows done.

    Raises MonitorError where the bundle's reference does not load, DatasetError where no row is
    finite; what reading or scoring the chunks raises goes through.
    """
    offline, done = Offline(bundle, settings), 0
    for chunk in chunks:
        done += offline.take(chunk)
        progress(done)
        if offline.finished:
            break
    return offline.result()


def first_verdict(result: OfflineResult, bundle: Bundle) -> Verdict | None:
    """The first alarm in the form that the ledger keeps."""
    if not result.alarms:
        return None
    alarm = result.alarms[0]
    return Verdict(
        model=bundle.manifest.name,
        bundle_digest=bundle.digest,
        at=alarm.time or datetime.now(UTC).isoformat(timespec="microseconds"),
        observation=alarm.observation,
        detector=DETECTOR,
        log_evidence=alarm.log_evidence,
        threshold=result.threshold,
        parts=alarm.parts,
        effect_size=alarm.effect_size,
        advisory=alarm.advisory,
        target_run_length=result.target_run_length,
        words=alarm.words,
        classes=alarm.classes,
    )


def thinned(course: Floats) -> tuple[tuple[int, float], ...]:
    """(observation, log evidence): all of a short course, of a long one the highest of each
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

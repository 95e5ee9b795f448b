"""A bundle's drift detectors over scored rows without a server: what would have alarmed, when, on
what evidence. Commands: `edgeloop monitor replay --bundle`, `edgeloop monitor report`.

The first alarm is at the row where the live observer raises its first verdict. Where the replay
begins anew after an alarm it does so at once, so that alarms can be counted; the live detectors go
on for a while and wait until the traffic is quiet again.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.errors import DatasetError
from edgeloop.records import FeatureMovement, Movement, Verdict
from monitor.courses import Series, as_time, thinned
from monitor.kept import NOTHING_MOVED, Kept
from monitor.observer import LEAST_EXPLAINED_ROWS, MIXTURE
from monitor.reference import load_reference
from monitor.rehearsal import Rehearsal, Rehearsed
from monitor.scored import Scored
from monitor.thresholds import trial_threshold

# Later alarms of the same file are told without what moved.
MOST_EXPLAINED = 50


@dataclass(frozen=True)
class OfflineAlarm:
    """`row` and `onset_row` count all rows from 1, `observation` those that were not skipped;
    `requests`: how many requests there were until then, estimated where only a sample was kept;
    `time`: of the row, None where it has none. The rest as in records.Verdict: `detector` is the
    one whose evidence is highest over its threshold, `log_evidence` and `threshold` are its."""

    row: int
    observation: int
    onset_row: int
    onset_observation: int
    requests: float
    id: str
    time: str | None
    onset_time: str | None
    detector: str
    detectors: tuple[str, ...]
    evidence_ratios: dict[str, float]
    log_evidence: float
    threshold: float
    parts: dict[str, float]
    effect_size: float
    advisory: bool
    words: tuple[Movement, ...] = ()
    classes: tuple[Movement, ...] = ()
    features: tuple[FeatureMovement, ...] = ()
    ngrams: tuple[Movement, ...] = ()
    reference_rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class OfflineResult:
    """What came of a replay. Where `may_alarm` is false the reference is not armed and no other
    threshold was asked for. `detectors`: those that watched; the secondary ones had no features of
    `rows_without_features` rows and left them out. `log_evidence`, `threshold` and `evidence`,
    (observation, log evidence), are the primary's; `evidence_ratio` and `ratios`, (observation,
    ratio), the highest evidence of all detectors over its threshold; both courses are thinned.
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
    secondary_threshold: float
    threshold_source: str
    target_run_length: int
    detectors: tuple[str, ...]
    rows_without_features: int
    log_evidence: float
    evidence_ratio: float
    alarms: tuple[OfflineAlarm, ...]
    evidence: tuple[tuple[int, float], ...]
    ratios: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Settings:
    """`restart`: go on after an alarm with no evidence; `stop_at_alarm`: read no further."""

    target_run_length: int | None = None
    restart: bool = False
    stop_at_alarm: bool = False


class Offline:
    """One pass. After each chunk `finished` tells whether more is wanted."""

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        """Raises MonitorError where the bundle's reference does not load."""
        self.reference = load_reference(bundle.file(REFERENCE))
        fitted, family = self.reference.fitted, self.reference.family
        self.trial = trial_threshold(fitted, family, settings.target_run_length)
        self._rehearsal = Rehearsal(fitted, self.trial.limits, family.scales, settings.restart)
        self._settings = settings
        self._alarms: list[OfflineAlarm] = []
        self._rows = self._rows_without_features = 0
        self._requests = 0.0
        self._right = self._labelled = self._skipped_behind = 0
        self._course, self._ratios = Series(), Series()
        self._row_of, self._times = Series(), Series()
        self._kept = Kept(self.reference)

    @property
    def finished(self) -> bool:
        """An alarm came that ends the replay."""
        return bool(self._alarms) and self._settings.stop_at_alarm

    def take(self, chunk: Scored) -> int:
        """Take a chunk; returns how many of its rows were used."""
        taken = self._rehearsal.take(chunk.embeddings, chunk.probabilities, chunk.features)
        seen = chunk.at(taken.places)
        before = len(self._course)
        self._course.append(taken.log_evidence)
        self._ratios.append(taken.ratios)
        self._row_of.append(taken.places + self._rows + 1)
        self._times.append(seen.times)
        self._kept.add(seen)
        for rehearsed in taken.alarms:
            self._alarms.append(self._alarm(rehearsed, seen, before))
            if self.finished:
                return self._cut(chunk, rehearsed)
        self._kept.forget()
        return self._count(chunk, len(chunk))

    def _cut(self, chunk: Scored, rehearsed: Rehearsed) -> int:
        """Leave out what comes after the alarm that ends the replay."""
        used = int(self._row_of[rehearsed.alarm.observation - 1]) - self._rows
        self._course.cut(rehearsed.alarm.observation)
        self._ratios.cut(rehearsed.alarm.observation)
        self._skipped_behind = int(len(chunk) - used) - (
            len(self._row_of) - rehearsed.alarm.observation
        )
        return self._count(chunk.at(slice(0, used)), used)

    def _count(self, chunk: Scored, used: int) -> int:
        self._rows += used
        self._rows_without_features += used if chunk.features is None else 0
        if used:
            self._requests = float(chunk.requests[-1])
        known = ~np.isnan(chunk.right)
        self._labelled += int(known.sum())
        self._right += int(chunk.right[known].sum())
        return used

    def _alarm(self, rehearsed: Rehearsed, seen: Scored, before: int) -> OfflineAlarm:
        alarm = rehearsed.alarm
        place = alarm.observation - before - 1
        logs = self._log_evidence(rehearsed, seen)
        ratios = {name: _ratio(log, self._threshold(name)) for name, log in logs.items()}
        first = max(ratios, key=lambda name: ratios[name])
        moved = NOTHING_MOVED
        if len(self._alarms) < MOST_EXPLAINED:
            # Rows of this chunk may come after the alarm.
            behind = len(self._course) - alarm.observation
            explained = max(alarm.observation - rehearsed.onset + 1, LEAST_EXPLAINED_ROWS)
            moved = self._kept.moved(explained, behind, ratios)
        return OfflineAlarm(
            row=int(self._row_of[alarm.observation - 1]),
            observation=alarm.observation,
            onset_row=int(self._row_of[rehearsed.onset - 1]),
            onset_observation=rehearsed.onset,
            requests=float(seen.requests[place]),
            id=str(seen.ids[place]),
            time=as_time(self._times[alarm.observation - 1]),
            onset_time=as_time(self._times[rehearsed.onset - 1]),
            detector=first,
            detectors=tuple(name for name, ratio in ratios.items() if ratio >= 1.0),
            evidence_ratios=ratios,
            log_evidence=logs[first],
            threshold=self._threshold(first),
            parts=alarm.parts,
            effect_size=alarm.effect_size,
            advisory=alarm.advisory,
            **vars(moved),
        )

    def _log_evidence(self, rehearsed: Rehearsed, seen: Scored) -> dict[str, float]:
        """By detector; the secondary ones where they watch."""
        found = {MIXTURE: rehearsed.alarm.log_evidence}
        if self._has_features or seen.features is not None:
            names = [scale.name for scale in self.reference.family.scales]
            found.update(zip(names, rehearsed.secondary.tolist(), strict=True))
        return found

    def _threshold(self, detector: str) -> float:
        limits = self.trial.limits
        return limits.primary if detector == MIXTURE else limits.secondary

    @property
    def _has_features(self) -> bool:
        return self._rows_without_features < self._rows

    def result(self) -> OfflineResult:
        """The counts. Raises DatasetError where no row could be read."""
        fitted = self.reference.fitted
        if self._rows and self._rehearsal.observations == 0:
            raise DatasetError(
                f"all {self._rows} rows hold numbers that are not finite; nothing was replayed"
            )
        course, ratios = self._course.whole(), self._ratios.whole()
        limits, names = self.trial.limits, [MIXTURE]
        if self._has_features:
            names += [scale.name for scale in self.reference.family.scales]
        return OfflineResult(
            rows=self._rows,
            skipped=self._rehearsal.skipped - self._skipped_behind,
            requests=self._requests,
            accuracy=self._right / self._labelled if self._labelled else None,
            labelled=self._labelled,
            armed=fitted.armed,
            reason=fitted.reason,
            may_alarm=limits.primary_alarms,
            threshold=limits.primary,
            secondary_threshold=limits.secondary,
            threshold_source=self.trial.source,
            target_run_length=self.trial.target_run_length,
            detectors=tuple(names),
            rows_without_features=self._rows_without_features,
            log_evidence=float(course[-1]) if len(course) else 0.0,
            evidence_ratio=float(ratios[-1]) if len(ratios) else 0.0,
            alarms=tuple(self._alarms),
            evidence=thinned(course),
            ratios=thinned(ratios),
        )


def _ratio(log_evidence: float, threshold: float) -> float:
    return log_evidence / threshold if threshold > 0.0 else 0.0


def replay_offline(
    chunks: Iterable[Scored], offline: Offline, progress: Callable[[int], None]
) -> OfflineResult:
    """All chunks, or until an alarm where the settings say so; `progress` gets the rows done.

    Raises DatasetError where no row is finite; what reading or scoring the chunks raises goes
    through.
    """
    done = 0
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
        detector=alarm.detector,
        log_evidence=alarm.log_evidence,
        threshold=alarm.threshold,
        parts=alarm.parts,
        effect_size=alarm.effect_size,
        advisory=alarm.advisory,
        target_run_length=result.target_run_length,
        words=alarm.words,
        classes=alarm.classes,
        detectors=alarm.detectors,
        evidence_ratios=alarm.evidence_ratios,
        onset_observation=alarm.onset_observation,
        features=alarm.features,
        ngrams=alarm.ngrams,
        reference_rows=alarm.reference_rows,
    )

"""The Observer of one bundle: every answered text goes through the drift detectors of the reference
that ships with the model; at an alarm a verdict says what moved.

The detectors start again soon after an alarm. What they had reached stands in the status until the
traffic is quiet again (monitor.states); then the next alarm may come.
"""

import logging
import time
from datetime import UTC, datetime

import numpy as np

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.errors import MonitorError
from edgeloop.observer import Labelled, Observation, ObserverStatus
from edgeloop.records import Verdict
from monitor.accuracy.errors import DETECTOR as ERRORS
from monitor.accuracy.errors import RUN_LENGTH
from monitor.accuracy.watch import AccuracyWatch
from monitor.detector import Detector
from monitor.explain import nearest_centroid, what_moved
from monitor.features import read_features
from monitor.observer_state import (
    NOTHING,
    ObserverState,
    Reached,
    decode_state,
    encode_state,
    pack_row,
    unpack_row,
)
from monitor.onset import EvidencePath, rows_since_onset
from monitor.reference import load_reference
from monitor.secondary import Secondary
from monitor.states import Health, Seen, next_health, proven_harm
from monitor.tally import Tally
from monitor.words import Recent, RecentRow, hash_ngrams, word_list

logger = logging.getLogger(__name__)

# The primary detector's name; the secondary ones are named like their features.
MIXTURE = "mixture"
# Shares of fewer rows than this say little, however fast the alarm came.
LEAST_EXPLAINED_ROWS = 20
# So long the detectors go on after an alarm, then they start again.
ROWS_AFTER_ALARM = 128
# The state is made once in so many rows, to know its size.
MEASURED_EVERY_ROWS = 1_024


class DriftObserver:
    """Implements edgeloop.observer.Observer. One caller of observe(), rows in order."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises MonitorError where reference.npz is damaged or of another model."""
        self._reference = load_reference(bundle.file(REFERENCE))
        self.model = bundle.manifest.name
        self._bundle_digest = bundle.digest
        self._fitted_at = datetime.fromisoformat(bundle.manifest.created_at).timestamp()
        fitted, self.family = self._reference.fitted, self._reference.family
        self._may_alarm = fitted.armed or fitted.advisory
        self._family_may_alarm = self.family.armed or (fitted.advisory and not fitted.armed)
        self._detector = Detector(fitted)
        self._secondary = Secondary(self.family.scales)
        self._context = self.family.context()
        self._has_classes = len(self.family.names) < len(self.family.scales)
        accuracy = self._reference.accuracy
        self._accuracy = None if accuracy is None else AccuracyWatch(accuracy)
        self._recent = Recent()
        self._path = EvidencePath()
        self._health = Health()
        self._harm: bool | None = None
        self._alarmed = False
        self._alarms = 0
        self._restart_in = 0
        self._standing = NOTHING
        self.tally = Tally(self.family.scales)
        self._state_bytes = len(self.state())
        logger.info(
            "event=monitor_ready model=%s armed=%s rows=%d target_run_length=%d secondary=%d "
            "secondary_armed=%s reason=%r",
            self.model,
            fitted.armed,
            fitted.rows,
            self.family.promised,
            len(self.family.scales),
            self.family.armed,
            fitted.reason,
        )

    def observe(self, observation: Observation) -> Verdict | None:
        """Take one observation; a verdict is returned once per alarm. An alarm that is raised again
        before the traffic was quiet is no new one."""
        started = time.perf_counter()
        verdict = self._observe(observation)
        self.tally.took(time.perf_counter() - started)
        return verdict

    def _observe(self, observation: Observation) -> Verdict | None:
        skipped = self._detector.skipped
        self._detector.update(observation.embedding, observation.probabilities)
        if self._detector.skipped > skipped:
            self.tally.skipped += 1
            return None
        self.tally.observations += 1
        if self._accuracy is not None:
            self._accuracy.observe(observation.probabilities)
        self._take(observation)
        verdict = self._judge()
        if self.tally.observations % MEASURED_EVERY_ROWS == 0:
            self._state_bytes = len(self.state())
        return verdict

    def _take(self, observation: Observation) -> None:
        """The features to the secondary detectors, and what may explain an alarm to the recent."""
        predicted = int(observation.probabilities.argmax())
        values = read_features(observation, self.family.names, self._context)
        if self._has_classes:
            values.append(float(predicted))
        levels = self._secondary.levels(values)
        self._secondary.update(levels)
        self.tally.count(levels)
        words = word_list(observation.text)
        ngrams = hash_ngrams(words, self.family.salt)
        cluster = nearest_centroid(self._reference.fitted.centroids, observation.embedding)
        self._recent.add(RecentRow(frozenset(words), ngrams, predicted, cluster, tuple(values)))

    def _judge(self) -> Verdict | None:
        primary, secondary = self._primary_ratio(), self._secondary_ratio()
        highest = max(primary, secondary)
        self._path.add(highest)
        alarm = (self._may_alarm and primary >= 1.0) or (
            self._family_may_alarm and secondary >= 1.0
        )
        if not alarm and not self._harm and self._health.state == "ok":
            return None
        starts = alarm and not self._restart_in
        since = rows_since_onset(self._path.values()) if starts else 0
        self._health = next_health(self._health, Seen(alarm, highest, since), self._harm)
        verdict = self._alarm(since) if starts else None
        if self._restart_in:
            self._count_down()
        elif self._health.state in ("ok", "recovering"):
            self._alarmed, self._standing = False, NOTHING
        return verdict

    def _primary_ratio(self) -> float:
        return _ratio(self._detector.log_evidence, self._reference.fitted.threshold)

    def _secondary_ratio(self) -> float:
        return _ratio(self._secondary.highest_log_evidence, self.family.threshold)

    def _alarm(self, since: int) -> Verdict | None:
        """A threshold was passed; the verdict, where that is news."""
        self._restart_in = ROWS_AFTER_ALARM
        if self._alarmed:
            return None
        self._alarmed = True
        self._alarms += 1
        self.tally.alarms += 1
        return self._verdict(self._running_ratios(), since)

    def _count_down(self) -> None:
        """Start the detectors again some rows after an alarm: at once they would forget what they
        have just found, and the effect could not be measured."""
        self._restart_in -= 1
        if self._restart_in:
            return
        self._standing = self._standing.higher(self._reached())
        self._detector.reset()
        self._secondary.reset()
        self._path.clear()

    def _reached(self) -> Reached:
        detector = self._detector
        return Reached(self._running_ratios(), detector.log_evidence, detector.effect_size)

    def _running_ratios(self) -> dict[str, float]:
        """Each detector's evidence over its threshold, since it started."""
        evidence = self._secondary.log_evidence.tolist()
        threshold = self.family.threshold
        own = {
            name: _ratio(log, threshold)
            for name, log in zip(self._secondary.names, evidence, strict=True)
        }
        return {MIXTURE: self._primary_ratio(), **own}

    def _verdict(self, ratios: dict[str, float], since: int) -> Verdict:
        reference, detector = self._reference, self._detector
        first = max(ratios, key=lambda name: ratios[name])
        threshold = reference.fitted.threshold if first == MIXTURE else self.family.threshold
        recent = self._recent.last(max(since, LEAST_EXPLAINED_ROWS))
        moved = what_moved(recent, reference, ratios)
        return Verdict(
            model=self.model,
            bundle_digest=self._bundle_digest,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            observation=detector.observations,
            detector=first,
            log_evidence=ratios[first] * threshold,
            threshold=threshold,
            parts=detector.parts,
            advisory=not reference.fitted.armed or detector.burst_evidence_ratio >= 1.0,
            effect_size=detector.effect_size,
            target_run_length=self.family.promised,
            words=moved.words,
            classes=moved.classes,
            detectors=tuple(name for name, ratio in ratios.items() if ratio >= 1.0),
            evidence_ratios=ratios,
            onset_observation=max(1, detector.observations - since + 1),
            features=moved.features,
            ngrams=moved.ngrams,
            reference_rows=moved.reference_rows,
        )

    def label(self, labelled: Labelled) -> Verdict | None:
        """Take a label; a verdict is returned once, where labels show more errors than the
        reference has. What is not of a model with answers is left alone."""
        accuracy = self._accuracy
        if accuracy is None:
            return None
        alarmed = accuracy.label(labelled)
        self._harm = proven_harm(accuracy.upper_bound(), accuracy.fit.floor)
        return self._errors_verdict(accuracy) if alarmed else None

    def _errors_verdict(self, accuracy: AccuracyWatch) -> Verdict:
        errors = accuracy.errors
        return Verdict(
            model=self.model,
            bundle_digest=self._bundle_digest,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            observation=self._detector.observations,
            detector=ERRORS,
            log_evidence=errors.log_evidence,
            threshold=errors.threshold,
            parts={ERRORS: errors.log_evidence},
            target_run_length=RUN_LENGTH,
            words=(),
            classes=(),
            detectors=(ERRORS,),
            evidence_ratios={ERRORS: errors.log_evidence / errors.threshold},
        )

    def status(self) -> ObserverStatus:
        """A snapshot for /metrics and /drift. Of any thread."""
        detector, fitted = self._detector, self._detector.fitted
        reached = self._reached().higher(self._standing)
        return ObserverStatus(
            armed=fitted.armed,
            observations=detector.observations,
            skipped=detector.skipped,
            log_evidence=reached.log_evidence,
            threshold=fitted.threshold,
            target_run_length=self.family.promised,
            verified_run_length=self._reference.verified_run_length,
            alarms=self._alarms,
            alarmed=self._alarmed,
            accuracy=None if self._accuracy is None else self._accuracy.status(),
            state=self._health.state,
            evidence_ratios=reached.ratios,
            effect_size=reached.effect_size,
            burst_evidence_ratio=detector.burst_evidence_ratio,
            reference_rows=fitted.rows,
            reference_timestamp_seconds=self._fitted_at,
            smallest_visible_share=fitted.smallest_visible_share,
            state_bytes=self._state_bytes,
        )

    def state(self) -> bytes:
        """What restore() needs to go on exactly as this observer would."""
        return encode_state(
            ObserverState(
                bundle_digest=self._bundle_digest,
                detector=self._detector.state(),
                secondary=self._secondary.evidence.astype("<f8").tobytes(),
                path=self._path.values().astype("<f4").tobytes(),
                recent=[pack_row(row) for row in self._recent.rows()],
                state=self._health.state,
                quiet_rows=self._health.quiet_rows,
                needed_rows=self._health.needed_rows,
                harm=self._harm,
                alarmed=self._alarmed,
                alarms=self._alarms,
                restart_in=self._restart_in,
                standing=self._standing,
                accuracy=b"" if self._accuracy is None else self._accuracy.state(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Go on from a state. Raises MonitorError where it is damaged, of another bundle or of
        another version; the observer is then as it was."""
        stored = decode_state(state, self._bundle_digest)
        secondary = np.frombuffer(stored.secondary, "<f8")
        if secondary.size != self._secondary.evidence.size:
            raise MonitorError(
                f"an observer state with {secondary.size} secondary members does not fit "
                f"{self._secondary.evidence.size}; delete it, the observer then starts afresh"
            )
        accuracy = self._accuracy
        if accuracy is not None:
            accuracy = AccuracyWatch.restored(accuracy.fit, stored.accuracy)
        self._detector.restore(stored.detector)
        self._accuracy = accuracy
        self._secondary.evidence[:] = secondary.reshape(self._secondary.evidence.shape)
        self._path.restore(np.frombuffer(stored.path, "<f4"))
        self._restore_rows(stored)

    def _restore_rows(self, stored: ObserverState) -> None:
        self._recent = Recent()
        for row in stored.recent:
            self._recent.add(unpack_row(row))
        self._health = Health(stored.state, stored.quiet_rows, stored.needed_rows)
        self._harm = stored.harm
        self._alarmed, self._alarms = stored.alarmed, stored.alarms
        self._restart_in, self._standing = stored.restart_in, stored.standing


def _ratio(log_evidence: float, threshold: float) -> float:
    return log_evidence / threshold if threshold > 0.0 else 0.0

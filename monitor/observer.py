"""The Observer of one bundle: every answered text goes through the drift detector of the
reference that ships with the model; at the alarm a verdict says what moved.
"""

import logging
import struct
import zlib
from datetime import UTC, datetime

import msgspec

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.errors import MonitorError
from edgeloop.observer import Labelled, Observation, ObserverStatus
from edgeloop.records import Verdict
from monitor.accuracy.errors import DETECTOR as ERRORS
from monitor.accuracy.errors import RUN_LENGTH
from monitor.accuracy.watch import AccuracyWatch
from monitor.detector import Alarm, Detector
from monitor.reference import load_reference
from monitor.words import Recent, moved_classes, risen_words

logger = logging.getLogger(__name__)

DETECTOR = "e-process-mixture"
# Drift is taken to have begun when the evidence was last no higher than without drift: half of the
# threshold, or the level that it wanders about anyway. On the example's traffic that lay mostly
# within 20 rows of the truth; the minimum of the evidence did not.
ONSET_RATIO = 0.5
ORDINARY_LOG_EVIDENCE = 4.0
# Shares of fewer rows than this say little, however fast the alarm came.
LEAST_EXPLAINED_ROWS = 20


STATE_MAGIC = b"ELO2"
STATE_HEAD = struct.Struct("<4sI")


class _State(msgspec.Struct, array_like=True):
    """The magic's last digit is the version of this."""

    bundle_digest: str
    detector: bytes
    rows_since_onset: int
    recent: list[tuple[list[str], int]]
    accuracy: bytes


class DriftObserver:
    """Implements edgeloop.observer.Observer. One caller of observe(), rows in order."""

    def __init__(self, bundle: Bundle) -> None:
        """Raises MonitorError where reference.npz is damaged or of another model."""
        self._reference = load_reference(bundle.file(REFERENCE))
        self.model = bundle.manifest.name
        self._bundle_digest = bundle.digest
        self._detector = Detector(self._reference.fitted)
        self._recent = Recent()
        self._rows_since_onset = 0
        accuracy = self._reference.accuracy
        self._accuracy = None if accuracy is None else AccuracyWatch(accuracy)
        fitted = self._reference.fitted
        self._ordinary = max(ONSET_RATIO * fitted.threshold, ORDINARY_LOG_EVIDENCE)
        logger.info(
            "event=monitor_ready model=%s armed=%s rows=%d target_run_length=%d reason=%r",
            self.model,
            fitted.armed,
            fitted.rows,
            fitted.target_run_length,
            fitted.reason,
        )

    def observe(self, observation: Observation) -> Verdict | None:
        """Take one observation; a verdict is returned once, at the alarm."""
        skipped = self._detector.skipped
        alarm = self._detector.update(observation.embedding, observation.probabilities)
        if self._detector.skipped > skipped:
            return None
        if self._accuracy is not None:
            self._accuracy.observe(observation.probabilities)
        self._recent.add(observation.text, int(observation.probabilities.argmax()))
        low = self._detector.log_evidence <= self._ordinary
        self._rows_since_onset = 0 if low else self._rows_since_onset + 1
        return None if alarm is None else self._verdict(alarm)

    def label(self, labelled: Labelled) -> Verdict | None:
        """Take a label; a verdict is returned once, where labels show more errors than the
        reference has. What is not of a model with answers is left alone."""
        if self._accuracy is None or not self._accuracy.label(labelled):
            return None
        errors = self._accuracy.errors
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
        )

    def accuracy_upper_bound(self) -> float | None:
        """Of the labelled accuracy; None without labels. See AccuracyWatch.upper_bound."""
        return None if self._accuracy is None else self._accuracy.upper_bound()

    def is_estimate_below_floor(self) -> bool:
        """See AccuracyWatch.is_estimate_below_floor."""
        return self._accuracy is not None and self._accuracy.is_estimate_below_floor()

    def _verdict(self, alarm: Alarm) -> Verdict:
        known, rows = self._reference, self._reference.fitted.rows
        explained = min(len(self._recent), max(self._rows_since_onset, LEAST_EXPLAINED_ROWS))
        words, classes = self._recent.count(explained)
        return Verdict(
            model=self.model,
            bundle_digest=self._bundle_digest,
            at=datetime.now(UTC).isoformat(timespec="microseconds"),
            observation=alarm.observation,
            detector=DETECTOR,
            log_evidence=alarm.log_evidence,
            threshold=known.fitted.threshold,
            parts=alarm.parts,
            advisory=alarm.advisory,
            effect_size=alarm.effect_size,
            target_run_length=known.fitted.target_run_length,
            words=risen_words(words, explained, known.words, rows),
            classes=moved_classes(classes, explained, known.class_counts, known.labels),
        )

    def status(self) -> ObserverStatus:
        """A snapshot for /metrics and /drift."""
        detector, fitted = self._detector, self._detector.fitted
        return ObserverStatus(
            armed=fitted.armed,
            observations=detector.observations,
            skipped=detector.skipped,
            log_evidence=detector.log_evidence,
            threshold=fitted.threshold,
            target_run_length=fitted.target_run_length,
            verified_run_length=fitted.verified_run_length,
            alarms=detector.alarms,
            alarmed=detector.alarmed,
            accuracy=None if self._accuracy is None else self._accuracy.status(),
            effect_size=detector.effect_size,
            burst_evidence_ratio=detector.burst_evidence_ratio,
        )

    def state(self) -> bytes:
        """What restore() needs to go on exactly as this observer would."""
        body = msgspec.msgpack.encode(
            _State(
                self._bundle_digest,
                self._detector.state(),
                self._rows_since_onset,
                [(sorted(words), predicted) for words, predicted in self._recent.rows()],
                b"" if self._accuracy is None else self._accuracy.state(),
            )
        )
        return STATE_HEAD.pack(STATE_MAGIC, zlib.crc32(body)) + body

    def restore(self, state: bytes) -> None:
        """Go on from a state. Raises MonitorError where it is damaged, of another bundle or of
        another version; the observer is then as it was."""
        stored = _decode(state)
        if stored.bundle_digest != self._bundle_digest:
            raise MonitorError(
                f"an observer state of the bundle {stored.bundle_digest[:12]} does not fit "
                f"{self._bundle_digest[:12]}; delete it, the observer then starts afresh"
            )
        accuracy = self._accuracy
        if accuracy is not None:
            accuracy = AccuracyWatch.restored(accuracy.fit, stored.accuracy)
        self._detector.restore(stored.detector)
        self._accuracy = accuracy
        self._rows_since_onset = stored.rows_since_onset
        self._recent = Recent()
        for words, predicted in stored.recent:
            self._recent.add_words(frozenset(words), predicted)


def _decode(state: bytes) -> _State:
    body = state[STATE_HEAD.size :]
    try:
        if state[: STATE_HEAD.size] != STATE_HEAD.pack(STATE_MAGIC, zlib.crc32(body)):
            raise ValueError("its checksum or its version does not fit")
        return msgspec.msgpack.decode(body, type=_State)
    except (ValueError, msgspec.MsgspecError) as problem:
        raise MonitorError(
            f"an observer state of {len(state)} bytes is damaged or of another version "
            f"({problem}); delete it, the observer then starts afresh"
        ) from None

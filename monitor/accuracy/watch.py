"""How accurate is the bundle that serves? What traffic says of it without labels, what labels say,
and both together. Some microseconds a row, 10 KB in all.

Rows come in order; labels come whenever they come. What the labelled figures take for granted:
which rows are labelled, and when, does not depend on whether they were answered rightly. Rows that
were drawn for being unsure are therefore left out of them; weighted, they are in `anchored` alone.
"""

from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.calibration import calibrate
from edgeloop.errors import MonitorError
from edgeloop.observer import AccuracyStatus, Bounded, Labelled
from monitor.accuracy.anchored import Traffic, anchored
from monitor.accuracy.errors import ErrorDetector, ordinary_error
from monitor.accuracy.fit import AccuracyFit
from monitor.accuracy.labels import Labels
from monitor.accuracy.sequence import Renewed
from monitor.accuracy.window import Window

# Two-sided, of the labelled bounds.
ALPHA = 0.05
# The labelled bounds are of the last RENEW to 2 RENEW labels.
RENEW = 256
# An estimate is below the floor where this many standard errors above it still are.
ONE_SIDED_Z = 1.645
# The error of a calibration is biased upwards in small samples.
LEAST_CALIBRATION_LABELS = 100
LEAST_WINDOW_ROWS = 200
# The estimates are compared with the floor at every label, and every so many rows: it takes ten
# times what a row does.
JUDGE_ROWS = 50


class _State(msgspec.Struct, array_like=True):
    """The first field is the version of this."""

    version: int
    window: tuple[int, bytes]
    labels: tuple[int, bytes, bytes]
    counts: list[int]
    errors: tuple[bytes, bool, int]
    position: int
    corrections: int
    late_corrections: int
    is_below_floor: bool


VERSION = 1


class AccuracyWatch:
    """One bundle's. Not thread-safe: one caller."""

    def __init__(self, fit: AccuracyFit) -> None:
        self.fit = fit
        self.errors = ErrorDetector(ordinary_error(fit))
        self._window = Window()
        self._labels = Labels()
        self._counts = Renewed(RENEW)
        self._position = self._corrections = self._late_corrections = 0
        self._is_below_floor = False
        self._bounds: tuple[float, float] | None = None  # of the labels so far, once asked for

    def observe(self, probabilities: NDArray[np.float64]) -> None:
        """Take an answered row by its probabilities (classes,)."""
        self._window.add(self.fit.confidence(probabilities), self.fit.is_above(probabilities))
        if self._window.taken % JUDGE_ROWS == 0:
            self._is_below_floor = self._judge()

    def label(self, labelled: Labelled) -> bool:
        """Take a label; True where the detector of concept drift alarms at it. A row that is
        labelled again counts once, with its last label."""
        alarmed = self._take(labelled)
        self._bounds = None
        self._is_below_floor = self._judge()
        return alarmed

    def _take(self, labelled: Labelled) -> bool:
        self._position = max(self._position, labelled.position)
        at = self._labels.find(labelled.id)
        if at is not None:
            self._correct(at, labelled.right)
            return False
        if labelled.corrects:
            self._late_corrections += 1
            return False
        judged = labelled.source != "captured_unsure"
        number = self._counts.add(labelled.right) if judged else -1
        self._labels.add(labelled, self.fit.confidence(labelled.probabilities), number)
        return judged and self.errors.update(labelled.right)

    def _correct(self, at: int, right: bool) -> None:
        number = self._labels.correct(at, right)
        if number is None:
            return
        self._corrections += 1
        if number >= 0:
            self._counts.correct(number, right)

    def upper_bound(self) -> float | None:
        """Of the labelled accuracy, at 97.5 %, one-sided, at all times at once; None without
        labels."""
        return self._labelled_bounds()[1] if self._counts.labels else None

    def _labelled_bounds(self) -> tuple[float, float]:
        if self._bounds is None:
            self._bounds = self._counts.bounds(ALPHA)
        return self._bounds

    def is_estimate_below_floor(self) -> bool:
        """Is the best estimate at hand surely below the floor: the anchored one, or else both of
        those without labels? Looked at again and again: no promise is made of how seldom it errs.
        """
        return self._is_below_floor

    def _judge(self) -> bool:
        bound = self._anchored()
        if bound is not None:
            return bound.upper < self.fit.floor
        estimates = (self._window.atc(self.fit), self._window.cbpe(self.fit))
        if len(self._window) < LEAST_WINDOW_ROWS or None in estimates:
            return False
        return all(
            e is not None and e.value + ONE_SIDED_Z * e.standard_error < self.fit.floor
            for e in estimates
        )

    def _anchored(self) -> Bounded | None:
        window = self._window
        return anchored(*self._labels.audit(), Traffic(window.mean, window.variance, len(window)))

    def _calibration_error(self) -> float | None:
        confidence, right = self._labels.judged()
        if len(right) < LEAST_CALIBRATION_LABELS:
            return None
        found = calibrate(confidence, right)
        return None if found is None else found.ece

    def _labelled(self) -> Bounded | None:
        counts = self._counts
        if not counts.labels:
            return None
        lower, upper = self._labelled_bounds()
        return Bounded(lower, counts.wins / counts.labels, upper)

    def status(self) -> AccuracyStatus:
        """A snapshot."""
        atc, cbpe = self._window.atc(self.fit), self._window.cbpe(self.fit)
        return AccuracyStatus(
            floor=self.fit.floor,
            reference=self.fit.accuracy,
            window_rows=len(self._window),
            atc=atc,
            cbpe=cbpe,
            gap=None if atc is None or cbpe is None else abs(atc.value - cbpe.value),
            anchored=self._anchored(),
            audit_rows=len(self._labels.audit()[0]),
            labelled=self._labelled(),
            labelled_rows=self._counts.labels,
            labels=self._labels.taken,
            corrections=self._corrections,
            late_corrections=self._late_corrections,
            label_position=self._position,
            calibration_error=self._calibration_error(),
            estimate_below_floor=self._is_below_floor,
            errors_log_evidence=self.errors.log_evidence,
            errors_threshold=self.errors.threshold,
            errors_alarmed=self.errors.alarmed,
            errors_alarms=self.errors.alarms,
        )

    def state(self) -> bytes:
        """What `restored` needs to go on bit for bit."""
        return msgspec.msgpack.encode(
            _State(
                VERSION,
                self._window.state(),
                self._labels.state(),
                self._counts.state(),
                self.errors.state(),
                self._position,
                self._corrections,
                self._late_corrections,
                self._is_below_floor,
            )
        )

    @classmethod
    def restored(cls, fit: AccuracyFit, state: bytes) -> Self:
        """A watch that goes on from a state. Raises MonitorError where it is damaged or of another
        version."""
        watch = cls(fit)
        try:
            stored = msgspec.msgpack.decode(state, type=_State)
            if stored.version != VERSION:
                raise ValueError(f"version {stored.version}, this edgeloop reads {VERSION}")
            watch._window.restore(*stored.window)
            watch._labels.restore(*stored.labels)
            watch._counts.restore(stored.counts)
            watch.errors.restore(*stored.errors)
        except (ValueError, IndexError, msgspec.MsgspecError) as problem:
            raise MonitorError(
                f"a state of the accuracy, {len(state)} bytes, is damaged or of another version "
                f"({problem}); delete it, counting then begins anew"
            ) from None
        watch._position = stored.position
        watch._corrections = stored.corrections
        watch._late_corrections = stored.late_corrections
        watch._is_below_floor = stored.is_below_floor
        return watch

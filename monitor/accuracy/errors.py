"""Concept drift on the stream of labels: is the model wrong more often than the reference says?

A one-sided e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for
sequential change detection", 2022) of the Shiryaev-Roberts form: M <- e (M + 1), where e is the
likelihood ratio of an error rate q against p, averaged over a grid of q > p. As long as a label's
probability of an error, given those before it, is p at most, M minus the count of labels falls on
average, so that the mean number of labels until M reaches A is A at least. p is the upper
confidence bound of the error on the reference rows: one that was lucky does not break the promise.
"""

import math

import numpy as np

from monitor.accuracy.fit import AccuracyFit
from monitor.decide import binomial_upper_bound

DETECTOR = "errors"
# Labels between false alarms, on average, at least.
RUN_LENGTH = 5_000
# How many times the odds of an error may have risen.
ODDS_RATIOS = np.array([1.5, 2.0, 3.0, 6.0])
REFERENCE_CONFIDENCE = 0.95
# Fewer errors than this are nobody's harm; and against next to none at all the count of labels by
# itself would be evidence.
LEAST_ERROR = 0.01
LARGEST = 1e12


def ordinary_error(fit: AccuracyFit) -> float:
    """The highest error rate that the reference rows allow for, at least LEAST_ERROR."""
    wrong = round((1.0 - fit.accuracy) * fit.rows)
    return max(LEAST_ERROR, binomial_upper_bound(wrong, fit.rows, REFERENCE_CONFIDENCE))


class ErrorDetector:
    """Of an ordinary error rate in (0, 1]. Not thread-safe."""

    def __init__(self, error: float) -> None:
        # q / p and (1 - q) / (1 - p), where q / (1 - q) is ODDS_RATIOS times p / (1 - p).
        self._if_right = 1.0 / (1.0 - error + ODDS_RATIOS * error)
        self._if_wrong = ODDS_RATIOS * self._if_right
        self._evidence = np.zeros(len(ODDS_RATIOS))
        self.alarmed = False
        self.alarms = 0

    @property
    def log_evidence(self) -> float:
        """ln of the averaged evidence, 0 at least."""
        return math.log(max(1.0, float(self._evidence.mean())))

    @property
    def threshold(self) -> float:
        """Of the log evidence."""
        return math.log(RUN_LENGTH)

    def update(self, right: bool) -> bool:
        """Take a label; True at the alarm, once."""
        ratio = self._if_right if right else self._if_wrong
        self._evidence = np.minimum(ratio * (self._evidence + 1.0), LARGEST)
        if self.alarmed or self.log_evidence < self.threshold:
            return False
        self.alarmed = True
        self.alarms += 1
        return True

    def state(self) -> tuple[bytes, bool, int]:
        """What `restore` needs."""
        return self._evidence.astype("<f8").tobytes(), self.alarmed, self.alarms

    def restore(self, evidence: bytes, alarmed: bool, alarms: int) -> None:
        """Raises ValueError where it is no state of this."""
        found = np.frombuffer(evidence, dtype="<f8").astype(np.float64)
        if found.shape != self._evidence.shape or not np.isfinite(found).all() or alarms < 0:
            raise ValueError("the evidence of errors does not fit")
        self._evidence, self.alarmed, self.alarms = found, alarmed, alarms

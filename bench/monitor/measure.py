"""What is said of alarms: run lengths and how sure they are, delays, and what was missed.

Everything starts from first alarms: the row, counted from 0, at which a stream first alarms, or
its length where it never does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Evidence = NDArray[np.float32]
Ints = NDArray[np.int64]

WORST_SHARE = 0.1
BISECTIONS = 40
RESAMPLES = 1_000


@dataclass(frozen=True)
class RunLength:
    """Rows per alarm over all streams; its standard error by the jackknife over references; and
    the run length that nine of ten references reach, its error by the bootstrap over references.
    Without an alarm the rows stand for it."""

    rows_per_alarm: float
    standard_error: float | None
    worst_tenth: float
    worst_tenth_error: float
    alarms: int
    rows: int
    references: int


def first_alarms(peaks: Evidence, threshold: float) -> Ints:
    """The highest evidence so far (time, streams) -> (streams,)."""
    return np.array([np.searchsorted(peak, threshold) for peak in peaks.T], dtype=np.int64)


def run_length(first: Ints, length: int) -> RunLength:
    """Of first alarms (references, streams) in streams of `length` rows without drift.

    Rows up to the first alarm, or to the end, over alarms: the maximum-likelihood estimate where
    the rate of alarms is constant.
    """
    rows = np.minimum(first + 1, length).sum(axis=1)
    alarms = np.sum(first < length, axis=1)
    return rates(rows, alarms)


def rates(rows: Ints, alarms: Ints) -> RunLength:
    """Of each reference's rows and alarms, both (references,)."""
    mean = float(rows.sum() / max(int(alarms.sum()), 1))
    own = rows / np.maximum(alarms, 1)
    return RunLength(
        mean,
        _jackknife(rows, alarms),
        float(np.quantile(own, WORST_SHARE)),
        _bootstrap(own),
        int(alarms.sum()),
        int(rows.sum()),
        len(rows),
    )


def _jackknife(rows: Ints, alarms: Ints) -> float | None:
    """None where it cannot be told: one reference, or all alarms on one."""
    count, others = len(rows), alarms.sum() - alarms
    if count < 2 or not others.all():
        return None
    without = (rows.sum() - rows) / others
    return float(np.sqrt((count - 1) / count * np.sum((without - without.mean()) ** 2)))


def matching_threshold(peaks: Evidence, wanted: float) -> float:
    """The lowest threshold at which streams without drift, their highest evidence so far (time,
    streams), run `wanted` rows per alarm."""
    low, high = float(peaks.min()), float(peaks.max())
    length = len(peaks)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        enough = run_length(first_alarms(peaks, middle)[None], length).rows_per_alarm >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return high


def _bootstrap(own: NDArray[np.floating]) -> float:
    """Standard error of the worst tenth of references' own run lengths."""
    resamples = np.random.default_rng(0).choice(own, size=(RESAMPLES, len(own)))
    return float(np.quantile(resamples, WORST_SHARE, axis=1).std())


@dataclass(frozen=True)
class Delay:
    """Rows from the change to the alarm: the median, where a miss counts as later than any alarm
    (None where most missed); what was missed; how many streams had alarmed before the change, which
    are left out."""

    median: float | None
    missed_ratio: float
    streams: int
    alarmed_before: int


def delay(first: Ints, change: int, length: int) -> Delay:
    """Of first alarms (streams,) in streams that change at row `change`; 1 is an alarm at the
    first changed row."""
    after = first[first >= change]
    before = len(first) - len(after)
    if not len(after):
        return Delay(None, 1.0, 0, before)
    waited = np.where(after < length, after - change + 1.0, np.inf)
    median = float(np.quantile(waited, 0.5, method="inverted_cdf"))
    missed = float(np.mean(after >= length))
    return Delay(None if np.isinf(median) else median, missed, len(after), before)

"""What an observer has counted in this process: what Prometheus adds up.

Nothing of it is saved with the observer's state. A counter that went on from a saved state would
stand a little lower than at the last scrape before a kill, and Prometheus would take that for a
restart at 0 and add all of it once more.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

from monitor.secondary import BINS, LEVELS, MISSING, Scale

# Seconds; an update should take less than 0.0001.
BUCKETS = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 0.05)


class Tally:
    """Counts of one observer. Written by its thread alone; may be read by others."""

    def __init__(self, scales: Sequence[Scale]) -> None:
        self.observations = 0
        self.skipped = 0
        self.alarms = 0
        self.seconds = 0.0
        self.durations = [0] * (len(BUCKETS) + 1)
        self._scales = tuple(scales)
        self._levels = [[0] * LEVELS for _ in scales]

    def count(self, levels: Sequence[int]) -> None:
        """Take a row by the levels of its features."""
        for own, level in zip(self._levels, levels, strict=True):
            own[level] += 1

    def took(self, seconds: float) -> None:
        """Take the duration of an update."""
        self.durations[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    @property
    def bins(self) -> Counter[tuple[str, int]]:
        """Rows by feature and bin; rows without the feature are in none."""
        found: Counter[tuple[str, int]] = Counter()
        for scale, counts in zip(self._scales, self._levels, strict=True):
            for own, rows in zip(scale.bins, known_counts(scale, counts), strict=True):
                if rows:
                    found[scale.name, own] += rows
        return found


def known_counts(scale: Scale, counts: Sequence[int]) -> list[int]:
    """The counts by level (LEVELS,) without those of rows that do not have the feature."""
    if scale.classes:
        return list(counts)
    return [0 if level == MISSING else rows for level, rows in enumerate(counts)]


def reference_bins(scale: Scale) -> list[int]:
    """How many reference rows lie in each bin, (BINS,)."""
    rows = [0] * BINS
    for own, count in zip(scale.bins, known_counts(scale, scale.counts), strict=True):
        rows[own] += count
    return rows


def shown_bins(scale: Scale) -> list[int]:
    """The bins that are exported: those with reference rows, and the last, which takes what lies
    above all of them. Where reference values are equal, deciles in between stay empty for ever."""
    rows = reference_bins(scale)
    return [own for own in range(BINS) if rows[own] or (own == BINS - 1 and not scale.classes)]

"""One threshold for all secondary detectors together, found by simulation on the reference.

As monitor.calibrate does it for the primary: references of n rows are resampled, traffic is drawn
from the full one, and nine of ten references keep the promise. An alarm of any detector counts.
The reference never shows what lies beyond its own extremes: in the simulation such rows come as
often as they do to n exchangeable rows, with probability about 1/n per side of each feature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.calibrate import Thresholds, exposure, shorter_thresholds, slope_of
from monitor.secondary import (
    LEVELS,
    MEMBERS,
    MISSING,
    Scale,
    Shape,
    advance,
    payoffs,
    shape_of,
)

REFERENCES = 64
STREAMS_PER_REFERENCE = 4
# Longer run lengths are extrapolated: simulating them takes longer than it is worth.
LONGEST_SIMULATED = 4_000
CHUNK_ROWS = 512

Levels = NDArray[np.uint8]
Small = NDArray[np.float32]


@dataclass(frozen=True)
class FamilyCalibration:
    """A threshold on the log evidence of every secondary detector, and what a second, independent
    simulation saw of it: `run_length` rows per alarm of any of them. `shorter`: thresholds of the
    intervals up to the simulated one."""

    threshold: float
    run_length: float
    alarms: int
    simulated_rows: int
    shorter: Thresholds = ()


def calibrate_family(
    scales: Sequence[Scale], levels: Levels, target: int, seed: int, block_rows: int = 1
) -> FamilyCalibration:
    """The threshold for reference levels (rows, features), in order of arrival, that keeps the
    target. `block_rows`: rows are drawn in blocks of so many neighbours, where they depend on one
    another."""
    simulated = min(target, LONGEST_SIMULATED)
    draw = Draw(tuple(scales), levels, block_rows)
    fitted = simulate_family(draw, 2 * simulated, np.random.default_rng([seed, 20]))
    shorter = shorter_thresholds(fitted, simulated)
    threshold = shorter[-1][1]
    if target > simulated:
        threshold += slope_of(shorter) * math.log(target / simulated)
    del fitted
    fresh = simulate_family(draw, 2 * simulated, np.random.default_rng([seed, 21]))
    rows, alarms = (int(counts.sum()) for counts in exposure(fresh, threshold))
    return FamilyCalibration(threshold, rows / max(alarms, 1), alarms, rows, shorter)


@dataclass(frozen=True)
class Draw:
    """What a simulation draws from: reference levels (rows, features)."""

    scales: tuple[Scale, ...]
    levels: Levels
    block_rows: int = 1

    def indices(self, rng: np.random.Generator, streams: int, length: int) -> NDArray[np.intp]:
        """Row numbers (length, streams), in blocks of neighbours."""
        rows, block = len(self.levels), self.block_rows
        starts = rng.integers(rows, size=(-(-length // block), 1, streams))
        drawn: NDArray[np.intp] = (starts + np.arange(block)[:, None]) % rows
        return drawn.reshape(-1, streams)[:length]

    def counts(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Level counts of resampled references, (references, features, levels)."""
        drawn = self.levels[self.indices(rng, REFERENCES, len(self.levels))]
        one_hot = drawn[..., None] == np.arange(LEVELS)
        counts: NDArray[np.int64] = one_hot.sum(axis=0, dtype=np.int64)
        return counts


def simulate_family(draw: Draw, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Highest log evidence of any detector so far, in streams without drift: (references, streams,
    length)."""
    shape = shape_of(draw.scales)
    tables = payoffs(draw.counts(rng), shape).astype(np.float32)
    tables = np.repeat(tables, STREAMS_PER_REFERENCE, axis=0)
    beyond = Beyond.of(draw, rng)
    evidence = np.zeros((*tables.shape[:2], MEMBERS), dtype=np.float32)
    highest = np.empty((len(tables), length), dtype=np.float32)
    for start in range(0, length, CHUNK_ROWS):
        chunk = highest[:, start : start + CHUNK_ROWS]
        levels = draw.levels[draw.indices(rng, len(tables), chunk.shape[1])]
        beyond.add(levels, rng)
        chunk[:] = run_family(tables, levels, evidence, shape).T
    np.maximum.accumulate(highest, axis=1, out=highest)
    return highest.reshape(REFERENCES, STREAMS_PER_REFERENCE, length)


@dataclass(frozen=True)
class Beyond:
    """How often rows lie beyond what each reference has seen: `rates` and their `levels`, both
    (streams, features, sides)."""

    rates: NDArray[np.float64]
    levels: Levels

    @classmethod
    def of(cls, draw: Draw, rng: np.random.Generator) -> "Beyond":
        """The chance that a row exceeds the highest of n exchangeable ones is 1/n on average over
        references, and exponential among them. No class lies beyond the others."""
        outer = [
            (0, 0) if scale.classes else (MISSING + 1, len(scale.edges) + 1)
            for scale in draw.scales
        ]
        numeric = np.array([not scale.classes for scale in draw.scales])
        rates = rng.exponential(1.0 / len(draw.levels), size=(REFERENCES, len(outer), 2))
        rates *= numeric[:, None]
        return cls(np.repeat(rates, STREAMS_PER_REFERENCE, axis=0), np.array(outer, dtype=np.uint8))

    def add(self, levels: Levels, rng: np.random.Generator) -> None:
        """Put such rows into levels (time, streams, features), in place."""
        for side in range(2):
            chosen = rng.random(levels.shape) < self.rates[..., side]
            np.copyto(levels, self.levels[:, side], where=chosen)


def run_family(tables: Small, levels: Levels, evidence: Small, shape: Shape) -> NDArray[np.float32]:
    """The highest log evidence of any detector over time; `evidence` (streams, features, members)
    goes on from where it stands, in place.

    tables (streams, features, levels, members), levels (time, streams, features) ->
    (time, streams).
    """
    streams, features = tables.shape[:2]
    flat = tables.reshape(-1, MEMBERS)
    first = np.arange(streams * features).reshape(streams, features) * LEVELS
    earned = np.empty_like(evidence)
    weights = shape.weights.astype(np.float32)[..., None]  # (features, members, 1)
    by_feature = evidence.transpose(1, 0, 2)  # a view
    means = np.empty((features, streams, 1), dtype=np.float32)
    highest = np.empty((len(levels), streams), dtype=np.float32)
    for at, row in enumerate(levels):
        np.take(flat, first + row, axis=0, out=earned, mode="clip")
        advance(evidence, earned)
        np.matmul(by_feature, weights, out=means)
        means[..., 0].max(axis=0, out=highest[at])
    logs: NDArray[np.float32] = np.log(highest)
    return logs

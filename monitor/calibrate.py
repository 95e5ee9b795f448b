"""The alarm threshold that keeps a promised run length, found by simulation on the reference.

The threshold is the lowest at which nine of ten simulated references keep the promise. A second,
independent simulation says what it came to.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitor.simulate import Dependence, Plan, Rows, simulate

REFERENCES = 48
STREAMS_PER_REFERENCE = 8
STREAMS_PER_REFERENCE_CHECKED = 4
# The share of references that may run shorter than promised.
SHORT_SHARE = 0.1
# Longer run lengths are extrapolated: simulating them takes longer than it is worth.
LONGEST_SIMULATED = 6_000
BISECTIONS = 30
# Of the simulated interval, for intervals on trial.
SHORTER = (8.0, 4.0, 2.0, 1.0)

# (run length, threshold) by rising run length.
Thresholds = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Calibration:
    """A threshold on the log evidence, and what a second, independent simulation saw of it.

    `run_length` is the rows per alarm among `simulated_rows`; where there was no alarm it is all
    of them, and the truth is longer. `extrapolated`: the target is above LONGEST_SIMULATED.
    `shorter`: thresholds of the intervals up to the simulated one.
    """

    threshold: float
    run_length: float
    alarms: int
    simulated_rows: int
    extrapolated: bool
    shorter: Thresholds = ()


def calibrate(rows: Rows, dependence: Dependence, target_run_length: int, seed: int) -> Calibration:
    """Threshold for a reference that keeps the target."""
    simulated = min(target_run_length, LONGEST_SIMULATED)
    plan = Plan(REFERENCES, STREAMS_PER_REFERENCE, 2 * simulated)
    fitted = simulate(rows, dependence, plan, np.random.default_rng([seed, 2]))
    shorter = shorter_thresholds(fitted, simulated)
    threshold = shorter[-1][1]
    extrapolated = target_run_length > simulated
    if extrapolated:
        threshold += slope_of(shorter) * math.log(target_run_length / simulated)
    del fitted
    plan = Plan(REFERENCES, STREAMS_PER_REFERENCE_CHECKED, 2 * simulated)
    fresh = simulate(rows, dependence, plan, np.random.default_rng([seed, 3]))
    quiet, alarms = (int(counts.sum()) for counts in exposure(fresh, threshold))
    return Calibration(threshold, quiet / max(alarms, 1), alarms, quiet, extrapolated, shorter)


def exposure(
    highest: NDArray[np.floating], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Per reference the rows until the first alarm or the end, and the alarms: (references,)."""
    length = highest.shape[-1]
    streams = highest.reshape(-1, length)
    quiet = np.array([np.searchsorted(stream, threshold) for stream in streams])
    quiet = quiet.reshape(highest.shape[:-1])
    return np.minimum(quiet + 1, length).sum(axis=-1), np.sum(quiet < length, axis=-1)


def solve_threshold(highest: NDArray[np.floating], run_length: float) -> float:
    """The lowest threshold at which all references but SHORT_SHARE run that long."""
    low, high = 0.0, float(highest.max())
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        rows, alarms = exposure(highest, middle)
        short = float(np.mean(rows < run_length * alarms))
        low, high = (middle, high) if short > SHORT_SHARE else (low, middle)
    return high


def shorter_thresholds(highest: NDArray[np.floating], run_length: float) -> Thresholds:
    """The thresholds of that run length and of shorter ones."""
    lengths = [run_length / share for share in SHORTER]
    return tuple((length, solve_threshold(highest, length)) for length in lengths)


def slope_of(shorter: Thresholds) -> float:
    """Growth of the threshold per unit of ln L over the last factor of 4; at least the
    textbook's 1."""
    return max(1.0, (shorter[-1][1] - shorter[-3][1]) / math.log(4.0))


def check_thresholds(thresholds: Thresholds) -> None:
    """Raises ValueError where these cannot be thresholds, as those of a damaged file."""
    lengths = [length for length, _ in thresholds]
    rising = all(low < high for low, high in pairwise([0.0, *lengths]))
    if not rising or not all(math.isfinite(number) for pair in thresholds for number in pair):
        raise ValueError(f"thresholds of shorter intervals are {thresholds}")

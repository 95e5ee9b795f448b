"""The alarm threshold that keeps a promised run length, found by simulation on the reference.

The simulation copies what happens in use: a reference of n rows is drawn (a resample, tails
recomputed), because the error of a finite reference is what breaks the textbook threshold, and
traffic is then drawn from the full reference. The threshold is the lowest at which nine of ten
such references keep the promise; it holds for rows that arrive independently.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.eprocess import MEMBERS, Floats, fit_tails, payoffs, run_streams, tail_levels

REFERENCES = 64
STREAMS_PER_REFERENCE = 8
# The share of references that may run shorter than promised.
SHORT_SHARE = 0.1
# Longer run lengths are extrapolated: simulating them takes longer than it is worth.
LONGEST_SIMULATED = 20_000
CHUNK_ROWS = 2_048
BISECTIONS = 30
PERMUTATIONS = 999


@dataclass(frozen=True)
class Calibration:
    """A threshold on the log evidence, and what a second, independent simulation saw of it.

    `run_length` is the rows per alarm among `simulated_rows`; where there was no alarm it is all
    of them, and the truth is longer. `extrapolated`: the target is above LONGEST_SIMULATED.
    """

    threshold: float
    run_length: float
    alarms: int
    simulated_rows: int
    extrapolated: bool


def calibrate(scores: Floats, target_run_length: int, seed: int) -> Calibration:
    """Threshold for reference scores (parts, rows) that keeps the target."""
    simulated = min(target_run_length, LONGEST_SIMULATED)
    fitted = simulate(scores, 2 * simulated, np.random.default_rng([seed, 2]))
    threshold = solve_threshold(fitted, simulated)
    extrapolated = target_run_length > simulated
    if extrapolated:
        threshold += _slope(fitted, simulated) * math.log(target_run_length / simulated)
    del fitted
    fresh = simulate(scores, 2 * simulated, np.random.default_rng([seed, 3]))
    rows, alarms = (int(counts.sum()) for counts in exposure(fresh, threshold))
    return Calibration(threshold, rows / max(alarms, 1), alarms, rows, extrapolated)


def simulate(scores: Floats, length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Highest log evidence so far of streams without drift, (references, streams, length)."""
    parts, rows = scores.shape
    resamples = rng.integers(rows, size=(REFERENCES, rows))
    tails = fit_tails(np.moveaxis(scores[:, resamples], 1, 0))
    tables = np.repeat(payoffs(tails.rates), STREAMS_PER_REFERENCE, axis=0)
    # (references, rows, parts): every row as each reference's own tails see it.
    levels = np.stack([tail_levels(scores.T, own) for own in tails.thresholds])
    reference = np.repeat(np.arange(REFERENCES), STREAMS_PER_REFERENCE)
    evidence = np.zeros((reference.size, parts, MEMBERS))
    highest = np.empty((reference.size, length), dtype=np.float32)
    for start in range(0, length, CHUNK_ROWS):
        chunk = highest[:, start : start + CHUNK_ROWS]
        drawn = rng.integers(rows, size=chunk.shape[::-1])
        chunk[:] = run_streams(tables, levels[reference, drawn], evidence).T
    np.maximum.accumulate(highest, axis=1, out=highest)
    return highest.reshape(REFERENCES, STREAMS_PER_REFERENCE, length)


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


def _slope(highest: NDArray[np.floating], run_length: float) -> float:
    """Growth of the threshold per unit of ln L; at least the textbook's 1."""
    shorter = solve_threshold(highest, run_length / 4.0)
    return max(1.0, (solve_threshold(highest, run_length) - shorter) / math.log(4.0))


def neighbours_agree_p(classes: NDArray[np.intp], seed: int) -> float:
    """Permutation p-value of "neighbouring rows share a class no more often than chance"."""
    rng = np.random.default_rng([seed, 4])
    agreeing = int(np.sum(classes[1:] == classes[:-1]))
    as_many = 1
    for _ in range(PERMUTATIONS):
        shuffled = rng.permutation(classes)
        as_many += int(np.sum(shuffled[1:] == shuffled[:-1])) >= agreeing
    return as_many / (PERMUTATIONS + 1)

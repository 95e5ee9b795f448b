"""Streams without drift: how long the monitor runs between alarms, against what it promises."""

import statistics
import time
from dataclasses import asdict
from typing import Any
from zlib import crc32

import numpy as np

from bench.monitor import ours
from bench.monitor.measure import first_alarms, rates, run_length
from bench.monitor.plan import LENGTH_OVER_TARGET, SEED, Plan
from bench.monitor.streams import Source, bursty, bursty_order, independent, split

Figures = dict[str, Any]


def generator(*key: object) -> np.random.Generator:
    """One of its own for every purpose."""
    return np.random.default_rng([SEED, crc32(repr(key).encode())])


def cell(source: Source, reference_rows: int, target: int, plan: Plan) -> Figures:
    """Rows per alarm over references of that size, on independent rows."""
    references, length = plan.references(target, reference_rows), LENGTH_OVER_TARGET * target
    first, thresholds, seconds, refusals = [], [], [], []
    for number in range(references):
        rng = generator(source.name, reference_rows, number)
        reference, live = split(source.pool, reference_rows, rng)
        started = time.perf_counter()
        detector = ours.fit(source, reference, target, number)
        seconds.append(time.perf_counter() - started)
        if not detector.fitted.armed:
            refusals.append(detector.fitted.reason)
            continue
        threshold = detector.fitted.threshold
        ids = independent(live, (length, plan.streams_of(target)), rng)
        first.append(first_alarms(ours.highest(detector, source, ids), threshold))
        thresholds.append(threshold)
    return {
        **_head(source, reference_rows, target, refusals, references),
        "fit_seconds": statistics.median(seconds),
        **(_ratios(asdict(run_length(np.array(first), length)), target) if first else {}),
        "threshold": statistics.mean(thresholds) if first else None,
    }


def bursty_cell(source: Source, mean_burst: float, plan: Plan) -> Figures:
    """The same where reference and traffic come in bursts, row by row as a server does it, with
    whatever the monitor chooses to do about that."""
    reference_rows, target = plan.compared(source.pool), plan.target
    rows, alarms, refusals = [], [], []
    for number in range(plan.few):
        rng = generator(source.name, "bursts", mean_burst, number)
        reference, live = split(source.pool, reference_rows, rng)
        ordered = bursty_order(reference, source.kinds, mean_burst, rng)
        detector = ours.fit(source, ordered, target, number)
        if not detector.fitted.armed:
            refusals.append(detector.fitted.reason)
            continue
        shape = (LENGTH_OVER_TARGET * target, plan.bursty_streams)
        ids = bursty(live, source.kinds, shape, mean_burst, rng)
        alarms.append(sum(ours.alarms(detector, source, stream) for stream in ids.T))
        rows.append(ids.size)
    found = rates(np.array(rows), np.array(alarms)) if rows else None
    return {
        **_head(source, reference_rows, target, refusals, plan.few),
        "mean_burst": mean_burst,
        **(_ratios(asdict(found), target) if found else {}),
    }


def _head(
    source: Source, reference_rows: int, target: int, refusals: list[str], references: int
) -> Figures:
    return {
        "source": source.name,
        "reference_rows": reference_rows,
        "live_rows": source.pool - reference_rows,
        "target": target,
        "drawn": references,
        "refused": len(refusals),
        "reason": refusals[0] if refusals else None,
    }


def _ratios(found: Figures, target: int) -> Figures:
    error = found["standard_error"]
    return {
        **found,
        "ratio": found["rows_per_alarm"] / target,
        "ratio_error": None if error is None else error / target,
        "worst_tenth_ratio": found["worst_tenth"] / target,
        "worst_tenth_ratio_error": found["worst_tenth_error"] / target,
    }

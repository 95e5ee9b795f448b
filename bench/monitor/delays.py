"""Streams that change: how soon the monitor alarms, as it is armed and at the run length that it
would really have."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.monitor import ours
from bench.monitor.measure import (
    Evidence,
    delay,
    first_alarms,
    matching_threshold,
    run_length,
)
from bench.monitor.nulls import generator
from bench.monitor.plan import BEFORE_ROWS, LENGTH_OVER_TARGET, WAIT_ROWS, Plan
from bench.monitor.sources import shifts
from bench.monitor.streams import Ids, Shift, Source, independent, shifted, split

Figures = dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """One reference's highest log evidence so far, above its own threshold: without drift and
    under each shift, (time, streams) each."""

    quiet: Evidence
    changed: dict[str, Evidence]


def cell(source: Source, plan: Plan) -> Figures:
    """Delays under every shift, over references of the compared size."""
    reference_rows = plan.compared(source.pool)
    found = [_watch(source, reference_rows, number, plan) for number in range(plan.few)]
    watched = [one for one in found if one is not None]
    if not watched:
        return {"source": source.name, "reference_rows": reference_rows, "references": 0}
    quiet = np.concatenate([one.quiet for one in watched], axis=1)
    correction = matching_threshold(quiet, plan.target)
    realised = {
        name: _run_length(watched, over)
        for name, over in (("promised", 0.0), ("matched", correction))
    }
    return {
        "source": source.name,
        "reference_rows": reference_rows,
        "references": len(watched),
        "target": plan.target,
        "correction": correction,
        "run_length": realised,
        "shifts": {
            shift.name: {
                "promised": _delay(watched, shift, 0.0),
                "matched": _delay(watched, shift, correction),
            }
            for shift in shifts(source)
        },
    }


def _run_length(watched: list[Watched], over: float) -> Figures:
    first = np.stack([first_alarms(one.quiet, over) for one in watched])
    return asdict(run_length(first, len(watched[0].quiet)))


def _delay(watched: list[Watched], shift: Shift, over: float) -> Figures:
    first = np.concatenate([first_alarms(one.changed[shift.name], over) for one in watched])
    return asdict(delay(first, BEFORE_ROWS, BEFORE_ROWS + WAIT_ROWS))


def _watch(source: Source, reference_rows: int, number: int, plan: Plan) -> Watched | None:
    """None where this reference may not arm."""
    rng = generator(source.name, "delays", number)
    reference, live = split(source.pool, reference_rows, rng)
    detector = ours.fit(source, reference, plan.target, number)
    if not detector.fitted.armed:
        return None
    quiet = independent(live, (LENGTH_OVER_TARGET * plan.target, plan.streams), rng)
    wanted = shifts(source)
    changed = changing(source, live, wanted, plan.shifted_streams, rng)
    evidence = ours.highest(detector, source, np.concatenate(list(changed.values()), axis=1))
    threshold = np.float32(detector.fitted.threshold)
    parts = np.split(evidence - threshold, len(wanted), axis=1)
    return Watched(
        ours.highest(detector, source, quiet) - threshold,
        {shift.name: part for shift, part in zip(wanted, parts, strict=True)},
    )


def changing(
    source: Source, live: Ids, wanted: list[Shift], streams: int, rng: np.random.Generator
) -> dict[str, Ids]:
    """Streams by the shift that befalls them after BEFORE_ROWS rows, (time, streams)."""
    found = {}
    for shift in wanted:
        before = independent(live, (BEFORE_ROWS, streams), rng)
        after = shifted(source, live, shift, (WAIT_ROWS, streams), rng)
        found[shift.name] = np.concatenate([before, after])
    return found

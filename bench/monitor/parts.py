"""The parts: each returns its figures as plain values, which __main__ keeps and prints."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.compress.parts import Setting as Compressed
from bench.monitor import accuracy as estimates
from bench.monitor import delays, nulls, ours, report_cost
from bench.monitor import peers as beside
from bench.monitor.plan import FULL, MEAN_BURSTS, QUICK, Plan
from bench.monitor.sources import FULL as ALL_ROWS
from bench.monitor.sources import QUICK as FEW_ROWS
from bench.monitor.sources import Models, make
from bench.monitor.streams import Source, independent, split

FITS = 3

Figures = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where the data lies, what is kept, and how much of it is used."""

    data: Path
    home: Path
    compressed: Compressed
    quick: bool

    @property
    def plan(self) -> Plan:
        return QUICK if self.quick else FULL

    @cached_property
    def models(self) -> Models:
        sizes = FEW_ROWS if self.quick else ALL_ROWS
        return Models(self.data, self.home, self.compressed, sizes)

    def source(self, name: str) -> Source:
        """A source by its name, its texts embedded where they are not yet."""
        return make(name, self.models)

    def sources(self) -> Iterator[Source]:
        """Those of the plan, one at a time."""
        return map(self.source, self.plan.sources)


def say(line: str) -> None:
    """Where a long part is."""
    print(f"  {line}", file=sys.stderr, flush=True)


def run_lengths(setting: Setting) -> Figures:
    """Independent rows without drift: every source, reference size and target."""
    cells, about = [], {}
    for source in setting.sources():
        about[source.name] = {"about": source.about, "rows": source.pool}
        for rows in setting.plan.sizes(source.pool):
            for target in setting.plan.targets:
                say(f"{source.name}: {rows} reference rows, {target} between alarms")
                cells.append(nulls.cell(source, rows, target, setting.plan))
    return {"sources": about, "cells": cells}


def bursts(setting: Setting) -> Figures:
    """Bursts of one class without drift, in the reference as in the traffic."""
    cells = []
    for source in setting.sources():
        for mean_burst in MEAN_BURSTS:
            say(f"{source.name}: bursts of {mean_burst:g} rows")
            cells.append(nulls.bursty_cell(source, mean_burst, setting.plan))
    return {"cells": cells}


def shifts(setting: Setting) -> Figures:
    """How soon each shift is seen."""
    cells = []
    for source in setting.sources():
        say(f"{source.name}: shifts")
        cells.append(delays.cell(source, setting.plan))
    return {"cells": cells}


def cost(setting: Setting) -> Figures:
    """Time of one update, and the sizes of state and model; time of a fit per target."""
    source = setting.source(setting.plan.sources[0])
    rows, targets = setting.plan.compared(source.pool), setting.plan.targets
    rng = nulls.generator(source.name, "cost")
    reference, live = split(source.pool, rows, rng)
    seconds: dict[int, list[float]] = {target: [] for target in targets}
    for number in range(FITS):
        for target in targets:
            started = time.perf_counter()
            detector = ours.fit(source, reference, target, number)
            seconds[target].append(time.perf_counter() - started)
    stream = independent(live, (setting.plan.timed_rows, 1), rng)[:, 0].tolist()
    embeddings = [source.embeddings[row] for row in stream]
    probabilities = [source.probabilities[row] for row in stream]
    spent = np.empty(len(stream))
    for at, (embedding, own) in enumerate(zip(embeddings, probabilities, strict=True)):
        begun = time.perf_counter_ns()
        detector.update(embedding, own)
        spent[at] = time.perf_counter_ns() - begun
    return {
        "source": source.name,
        "reference_rows": rows,
        "hidden": source.embeddings.shape[1],
        "classes": source.probabilities.shape[1],
        "updates": len(stream),
        "update_microseconds": float(np.median(spent)) / 1_000.0,
        "update_p99_microseconds": float(np.quantile(spent, 0.99)) / 1_000.0,
        "state_bytes": len(detector.state()),
        "model_bytes": ours.model_bytes(detector.fitted),
        "fit_seconds": {str(t): statistics.median(found) for t, found in seconds.items()},
    }


def peers(setting: Setting) -> Figures:
    """The peers and the monitor on the same streams."""
    cells = []
    for name in setting.plan.peer_sources:
        say(f"{name}: peers")
        cells.append(beside.cell(setting.source(name), setting.plan))
    return {"cells": cells}


def accuracy(setting: Setting) -> Figures:
    """What the estimates without labels are off by, under each shift of banking77."""
    run = setting.models.fine_tuned.folder.parent
    return estimates.measure(run / "candidates" / "onnx-int8", setting.data, say)


def report(_: Setting) -> Figures:
    """Time and memory of a report on 1,000,000 rows of 20 numbers against as many."""
    return report_cost.measure()


PARTS: dict[str, Callable[[Setting], Figures]] = {
    "run_lengths": run_lengths,
    "bursts": bursts,
    "shifts": shifts,
    "cost": cost,
    "peers": peers,
    "accuracy": accuracy,
    "report": report,
}

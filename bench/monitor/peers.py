"""The peers on one reference and its streams, each script by its own environment's Python
(bench/monitor/peers.sh makes those), and the monitor on the very same streams."""

import json
import os
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.monitor import ours
from bench.monitor.delays import changing
from bench.monitor.measure import delay, first_alarms, matching_threshold, run_length
from bench.monitor.nulls import generator
from bench.monitor.plan import BEFORE_ROWS, LENGTH_OVER_TARGET, WAIT_ROWS, Plan
from bench.monitor.sources import shifts
from bench.monitor.streams import Ids, Source, independent, split
from edgeloop.processes import last_line

HERE = Path(__file__).parent
ENVIRONMENTS = Path(os.environ.get("EDGELOOP_PEERS", HERE.parents[1] / "build" / "peers"))
PEERS = ("river", "evidently", "alibi")
OWN = "edgeloop"
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
NULL, SHIFT = "null", "shift:"

Figures = dict[str, Any]


def cell(source: Source, plan: Plan) -> Figures:
    """Per detector its usual setting and the one that comes nearest to the target run length from
    above: run length, and delay per shift. `problems` says why a peer is not there."""
    rng = generator(source.name, "peers")
    reference, live = split(source.pool, plan.compared(source.pool), rng)
    shape = (LENGTH_OVER_TARGET * plan.target, plan.peer_streams)
    streams = {NULL: independent(live, shape, rng)}
    streams |= changing(source, live, shifts(source), plan.peer_streams, rng)
    results, problems = [_own(source, reference, streams, plan)], {}
    microseconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "streams.npz"
        _export(source, reference, streams, plan.target, path)
        for peer in PEERS:
            found = _run(peer, path)
            results.append(found.get("results", []))
            microseconds |= found.get("microseconds", {})
            if "problem" in found:
                problems[peer] = found["problem"]
    judged = [_judge(one, shape[0]) for every in results for one in every]
    return {
        "source": source.name,
        "reference_rows": len(reference),
        "target": plan.target,
        "detectors": _choose(judged, plan.target),
        "microseconds": microseconds,
        "problems": problems,
    }


def _own(source: Source, reference: Ids, streams: dict[str, Ids], plan: Plan) -> list[Figures]:
    """As it is armed, and with the threshold that runs for the target on these very streams."""
    detector = ours.fit(source, reference, plan.target, 0)
    evidence = {name: ours.highest(detector, source, ids) for name, ids in streams.items()}
    settings = {
        "as promised": (True, detector.fitted.threshold),
        "tuned": (False, matching_threshold(evidence[NULL], plan.target)),
    }
    return [
        {
            "name": OWN,
            "setting": word,
            "usual": usual,
            "first": {name: first_alarms(e, threshold).tolist() for name, e in evidence.items()},
        }
        for word, (usual, threshold) in settings.items()
    ]


def _export(
    source: Source, reference: Ids, streams: dict[str, Ids], target: int, path: Path
) -> None:
    arrays: dict[str, Any] = {
        "embeddings": source.embeddings,
        "confidence": source.probabilities.max(axis=1),
        "reference": reference,
        "target": target,
    }
    arrays |= {name if name == NULL else f"{SHIFT}{name}": ids for name, ids in streams.items()}
    np.savez(path, **arrays)


def _run(peer: str, path: Path) -> Figures:
    environment = ENVIRONMENTS / peer
    if not (environment / ".ready").exists():
        why = environment.with_suffix(".txt")
        said = why.read_text(encoding="utf-8").strip() if why.exists() else ""
        return {"problem": said or "not installed: run bench/monitor/peers.sh"}
    command = [str(environment / "bin" / "python"), str(HERE / f"peer_{peer}.py"), str(path)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env={**clean, **QUIET}, capture_output=True, text=True)
    if done.returncode:
        return {"problem": last_line(done.stderr)}
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _judge(result: Figures, length: int) -> Figures:
    first = dict(result["first"])
    quiet = np.array(first.pop(NULL), dtype=np.int64)
    # One reference: the streams stand for references, and their errors for the standard error.
    found = run_length(quiet[:, None], length)
    return {
        "name": result["name"],
        "setting": result["setting"],
        "usual": result["usual"],
        "run_length": found.rows_per_alarm,
        "standard_error": found.standard_error,
        "alarms": found.alarms,
        "rows": found.rows,
        "delays": {
            name: asdict(delay(np.array(own), BEFORE_ROWS, BEFORE_ROWS + WAIT_ROWS))
            for name, own in first.items()
        },
    }


def _choose(judged: list[Figures], target: int) -> list[Figures]:
    """Per detector the usual settings, and the most eager one that still runs for the target; the
    longest running where none does."""
    chosen = []
    for name in dict.fromkeys(one["name"] for one in judged):
        own = [one for one in judged if one["name"] == name]
        enough = [one for one in own if one["run_length"] >= target]
        tuned = (
            min(enough, key=lambda one: float(one["run_length"]))
            if enough
            else max(own, key=lambda one: float(one["run_length"]))
        )
        chosen += [{**one, "tuned": one is tuned} for one in own if one["usual"] or one is tuned]
    return chosen

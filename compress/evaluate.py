"""Measures the candidates: each in processes of its own, one after another, in interleaved rounds,
so that a busy minute of the machine hits all of them alike.
"""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.answers import unpack
from edgeloop.errors import EngineError
from edgeloop.kinds import model_bytes
from edgeloop.records import Measurement
from edgeloop.rows import TextInput
from edgeloop.runtime import RowOutput
from edgeloop.statistics import quantile_interval

REPEATS = 3
# Rows that are timed in every round: three times what a 95% interval of the p95 needs.
TIMED_ROWS = 256

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """What one process reports: an answer and latency_ms (rows,) per text."""

    outputs: list[RowOutput]
    latency_ms: NDArray[np.float64]
    cold_start_seconds: float
    rss_bytes: int


@dataclass(frozen=True)
class Evaluation:
    """One candidate's answers to all texts, and its figures."""

    outputs: list[RowOutput]
    measurement: Measurement


@dataclass(frozen=True)
class Texts:
    """What to answer, texts or pairs, and how: `scratch` is an empty folder for the files of the
    processes."""

    texts: Sequence[TextInput]
    max_tokens: int
    confidence: float
    scratch: Path

    def write(self, name: str, texts: Sequence[TextInput]) -> Path:
        """The texts as a file that a measuring process reads."""
        path = self.scratch / f"{name}.json"
        path.write_text(json.dumps(list(texts)), encoding="utf-8")
        return path


def evaluate(
    folders: Mapping[str, Path], task: Texts, progress: Callable[[str], None]
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Measure every candidate folder by kind; also returns why a kind could not be measured."""
    spread = np.linspace(0, len(task.texts) - 1, min(TIMED_ROWS, len(task.texts)))
    timed = [task.texts[int(i)] for i in spread.round()]
    files = [task.write("all", task.texts), *[task.write("timed", timed)] * REPEATS]
    rounds: dict[str, list[Round]] = {kind: [] for kind in folders}
    failures: dict[str, str] = {}
    for number, texts in enumerate(files):
        for kind in [kind for kind in folders if kind not in failures]:
            progress(f"measuring {kind}: round {number + 1} of {len(files)}")
            try:
                rounds[kind].append(_round(folders[kind], texts, task))
            except EngineError as problem:
                logger.warning("candidate=%s cannot be measured reason=%r", kind, str(problem))
                failures[kind] = str(problem)
    done = {k: _summarise(folders[k], rounds[k], task) for k in folders if k not in failures}
    return done, failures


def _round(folder: Path, texts: Path, task: Texts) -> Round:
    out = task.scratch / "answers.npz"
    command = [sys.executable, "-m", "compress.measure"]
    command += ["--folder", str(folder), "--texts", str(texts), "--out", str(out)]
    command += ["--max-tokens", str(task.max_tokens)]
    # Found from any working folder, installed or not.
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [*command, "--started", str(time.monotonic_ns())],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"{folder}: measuring ended with {process.returncode} ({last})")
    with np.load(out, allow_pickle=False) as saved:
        return Round(
            outputs=unpack(saved),
            latency_ms=saved["latency_ms"],
            cold_start_seconds=float(saved["cold_start_seconds"]),
            rss_bytes=int(saved["rss_bytes"]),
        )


def _summarise(folder: Path, rounds: Sequence[Round], task: Texts) -> Evaluation:
    """The first round answered all rows; the others are the timed repeats."""
    latency_ms = np.stack([r.latency_ms for r in rounds[1:]], axis=1)  # (rows, repeats)
    return Evaluation(
        outputs=rounds[0].outputs,
        measurement=Measurement(
            rows=latency_ms.shape[0],
            repeats=latency_ms.shape[1],
            latency_p50_ms=quantile_interval(latency_ms, 0.5, task.confidence),
            latency_p95_ms=quantile_interval(latency_ms, 0.95, task.confidence),
            size_bytes=model_bytes(folder),
            rss_bytes=max(r.rss_bytes for r in rounds),
            cold_start_seconds=float(np.median([r.cold_start_seconds for r in rounds])),
        ),
    )

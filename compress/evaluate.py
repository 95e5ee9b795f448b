"""Measures candidates: each in processes of its own, one after another, in interleaved rounds, so
that a busy minute of the machine hits all of them alike, and nothing of ours runs beside them.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.answers import unpack
from compress.processes import run_module
from compress.texts import write_texts
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

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Round:
    """What one process reports: an answer and latency_ms (rows,) per text."""

    outputs: list[RowOutput]
    latency_ms: NDArray[np.float64]
    cold_start_seconds: float
    rss_bytes: int


@dataclass(frozen=True)
class Meter:
    """Answers texts by candidate folders; `scratch` is a folder for the files of the processes."""

    max_tokens: int
    scratch: Path
    progress: Progress

    def rounds(
        self, folders: Mapping[str, Path], batches: Sequence[Sequence[TextInput]], what: str
    ) -> tuple[dict[str, list[Round]], dict[str, str]]:
        """Every candidate answers every batch of texts, in turns: the rounds by kind, and why a
        kind could not be measured."""
        files = [
            write_texts(self.scratch / f"texts-{i}.json", texts) for i, texts in enumerate(batches)
        ]
        rounds: dict[str, list[Round]] = {kind: [] for kind in folders}
        failures: dict[str, str] = {}
        for number, texts in enumerate(files):
            for kind in [kind for kind in folders if kind not in failures]:
                self.progress(f"{what} {kind}: round {number + 1} of {len(files)}")
                try:
                    rounds[kind].append(self._round(folders[kind], texts))
                except EngineError as problem:
                    logger.warning("candidate=%s cannot be measured reason=%r", kind, str(problem))
                    failures[kind] = str(problem)
        return {kind: rounds[kind] for kind in folders if kind not in failures}, failures

    def _round(self, folder: Path, texts: Path) -> Round:
        out = self.scratch / "answers.npz"
        arguments = ["--folder", str(folder), "--texts", str(texts), "--out", str(out)]
        arguments += ["--max-tokens", str(self.max_tokens)]
        started = ["--started", str(time.monotonic_ns())]
        problem = run_module("compress.measure", [*arguments, *started])
        if problem is not None:
            raise EngineError(f"{folder.name}: cannot be measured ({problem})")
        with np.load(out, allow_pickle=False) as saved:
            return Round(
                outputs=unpack(saved),
                latency_ms=saved["latency_ms"],
                cold_start_seconds=float(saved["cold_start_seconds"]),
                rss_bytes=int(saved["rss_bytes"]),
            )


def timed(texts: Sequence[TextInput]) -> list[TextInput]:
    """At most TIMED_ROWS of the texts, spread evenly over them."""
    spread = np.linspace(0, len(texts) - 1, min(TIMED_ROWS, len(texts)))
    return [texts[int(i)] for i in spread.round()]


def measurement(folder: Path, rounds: Sequence[Round], confidence: float) -> Measurement:
    """The figures of rounds that answered the same texts."""
    latency_ms = np.stack([r.latency_ms for r in rounds], axis=1)  # (rows, repeats)
    return Measurement(
        rows=latency_ms.shape[0],
        repeats=latency_ms.shape[1],
        latency_p50_ms=quantile_interval(latency_ms, 0.5, confidence),
        latency_p95_ms=quantile_interval(latency_ms, 0.95, confidence),
        size_bytes=model_bytes(folder),
        rss_bytes=max(r.rss_bytes for r in rounds),
        cold_start_seconds=float(np.median([r.cold_start_seconds for r in rounds])),
    )

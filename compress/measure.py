"""One candidate in a process of its own, as the server runs it: single thread, single text.

    python -m compress.measure --folder CANDIDATE --texts texts.json --max-tokens N
                               --started MONOTONIC_NANOSECONDS --out answers.npz

Writes logits (rows, classes), latency_ms (rows,), cold_start_seconds and rss_bytes. Never imports
torch: what it measures must be what an edge box runs.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.runtime import OnnxModel

WARM_UP_ROWS = 20
STATUS = Path("/proc/self/status")


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    options = _parser().parse_args(arguments)
    texts: list[str] = json.loads(options.texts.read_text(encoding="utf-8"))
    model = OnnxModel(options.folder / MODEL, options.folder / TOKENIZER, options.max_tokens)
    model.score(texts[:1])
    cold_start_seconds = (time.monotonic_ns() - options.started) / 1e9
    model.score(texts[:WARM_UP_ROWS])
    logits, latency_ms = _answer(model, texts)
    np.savez(
        options.out,
        logits=logits,
        latency_ms=latency_ms,
        cold_start_seconds=cold_start_seconds,
        rss_bytes=peak_rss_bytes(),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compress.measure")
    for name in ("--folder", "--texts", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--max-tokens", "--started"):
        parser.add_argument(name, type=int, required=True)
    return parser


def _answer(
    model: OnnxModel, texts: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    logits, latency_ms = [], []
    for text in texts:
        started = time.perf_counter_ns()
        answer = model.run(model.encode([text])).logits
        latency_ms.append((time.perf_counter_ns() - started) / 1e6)
        logits.append(answer)
    return np.concatenate(logits), np.array(latency_ms)


def peak_rss_bytes() -> int:
    """The most memory that this process has held.

    Linux carries ru_maxrss over from the parent through fork and exec, and ours has torch loaded;
    VmHWM belongs to the new program alone (man 5 proc, man 2 getrusage).
    """
    if STATUS.exists():
        fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    main(sys.argv[1:])

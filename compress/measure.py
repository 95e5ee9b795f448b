"""One candidate in a process of its own, as the server runs it: single thread, single text.

    python -m compress.measure --folder CANDIDATE --texts texts.json --max-tokens N
                               --started MONOTONIC_NANOSECONDS --out answers.npz

Writes the answers (compress.answers), latency_ms (rows,),
cold_start_seconds and rss_bytes. Never imports torch: what it measures must be what an edge box
runs.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.answers import pack
from compress.texts import read_texts
from edgeloop.models import Model, open_model
from edgeloop.rows import TextInput
from edgeloop.runtime import RowOutput

WARM_UP_ROWS = 20
STATUS = Path("/proc/self/status")


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    options = _parser().parse_args(arguments)
    texts = read_texts(options.texts)
    model = open_model(options.folder, options.max_tokens)
    model.score(texts[:1])
    cold_start_seconds = (time.monotonic_ns() - options.started) / 1e9
    model.score(texts[:WARM_UP_ROWS])
    outputs, latency_ms = _answer(model, texts)
    figures: dict[str, Any] = {
        "latency_ms": latency_ms,
        "cold_start_seconds": cold_start_seconds,
        "rss_bytes": peak_rss_bytes(),
    }
    np.savez(options.out, **pack(outputs), **figures)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compress.measure")
    for name in ("--folder", "--texts", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--max-tokens", "--started"):
        parser.add_argument(name, type=int, required=True)
    return parser


def _answer(
    model: Model, texts: Sequence[TextInput]
) -> tuple[list[RowOutput], NDArray[np.float64]]:
    outputs, latency_ms = [], []
    for text in texts:
        started = time.perf_counter_ns()
        output = model.answer(text).output
        latency_ms.append((time.perf_counter_ns() - started) / 1e6)
        outputs.append(output)
    return outputs, np.array(latency_ms)


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

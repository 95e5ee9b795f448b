"""Several ONNX classifiers on the same rows, in turns in one process: one thread, one text at a
time, timed from the text to its class, with edgeloop's tokenizer and session options for all.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from edgeloop.bundle import TOKENIZER
from edgeloop.rows import Row
from edgeloop.runtime import SLOWER_FUSIONS, load_tokenizer, read_encodings

WARM_UP_ROWS = 20
# Long enough for a model's weights to be back in the caches, short enough for all to see the same
# load of the machine.
TURN_ROWS = 20


@dataclass
class Side:
    """One model.onnx; its output named in `output` is (batch, classes)."""

    model: Path
    output: str
    tokenizer: Tokenizer
    right: list[bool] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._session = ort.InferenceSession(
            str(self.model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=SLOWER_FUSIONS,
        )
        self._inputs = [node.name for node in self._session.get_inputs()]

    def answer(self, text: str) -> int:
        """The index of the class."""
        every = read_encodings([self.tokenizer.encode(text)]).feed()
        (logits,) = self._session.run([self.output], {name: every[name] for name in self._inputs})
        return int(logits[0].argmax())

    def take(self, rows: Sequence[Row], labels: Sequence[str]) -> None:
        """Answer the rows, and keep how long each took and whether it was right."""
        for row in rows:
            started = time.perf_counter_ns()
            answer = self.answer(row.text)
            self.latency_ms.append((time.perf_counter_ns() - started) / 1e6)
            self.right.append(labels[answer] == row.label)


def in_turns(
    models: Mapping[str, tuple[Path, str]],
    tokenizer: Path,
    rows: Sequence[Row],
    labels: Sequence[str],
    max_tokens: int,
) -> dict[str, dict[str, float]]:
    """accuracy, size_bytes, p50_ms and p95_ms of each model, given by file and output name.

    Every model answers every row once; who answers a block of rows first goes round.
    """
    sides = [
        Side(model, output, load_tokenizer(tokenizer / TOKENIZER, max_tokens))
        for model, output in models.values()
    ]
    for side in sides:
        for row in rows[:WARM_UP_ROWS]:
            side.answer(row.text)
    for turn, start in enumerate(range(0, len(rows), TURN_ROWS)):
        first = turn % len(sides)
        for side in (*sides[first:], *sides[:first]):
            side.take(rows[start : start + TURN_ROWS], labels)
    return {name: figures(side) for name, side in zip(models, sides, strict=True)}


def figures(side: Side) -> dict[str, float]:
    """What the table holds of a model."""
    p50_ms, p95_ms = np.quantile(side.latency_ms, [0.5, 0.95])
    return {
        "accuracy": float(np.mean(side.right)),
        "size_bytes": side.model.stat().st_size,
        "p50_ms": float(p50_ms),
        "p95_ms": float(p95_ms),
    }

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

from edgeloop.rows import Row
from edgeloop.runtime import SLOWER_FUSIONS, read_encodings

# Every row is timed this often, and the median of them taken: p95 is then that of long texts, not
# that of a busy machine.
ROUNDS = 3
WARM_UP_ROWS = 20
# Long enough for a model's weights to be back in the caches, short enough for all to see the same
# load of the machine.
TURN_ROWS = 20


@dataclass
class Side:
    """One model.onnx, whose output named `output` is (batch, classes) in the order of `labels`."""

    model: Path
    output: str
    tokenizer: Tokenizer
    labels: Sequence[str]
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

    def answer(self, text: str) -> str:
        """The class."""
        every = read_encodings([self.tokenizer.encode(text)]).feed()
        (logits,) = self._session.run([self.output], {name: every[name] for name in self._inputs})
        return self.labels[int(logits[0].argmax())]

    def take(self, rows: Sequence[Row]) -> None:
        """Answer the rows, and keep how long each took and whether it was right."""
        for row in rows:
            started = time.perf_counter_ns()
            answer = self.answer(row.text)
            self.latency_ms.append((time.perf_counter_ns() - started) / 1e6)
            self.right.append(answer == row.label)

    def figures(self) -> dict[str, float]:
        """What the table holds of it, once every row has been taken in every round."""
        latency_ms = np.median(np.reshape(self.latency_ms, (ROUNDS, -1)), axis=0)
        p50_ms, p95_ms = np.quantile(latency_ms, [0.5, 0.95])
        return {
            "accuracy": float(np.mean(self.right)),
            "size_bytes": self.model.stat().st_size,
            "p50_ms": float(p50_ms),
            "p95_ms": float(p95_ms),
        }


def in_turns(sides: Mapping[str, Side], rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """accuracy, size_bytes, p50_ms, p95_ms of each side; who answers a block first goes round."""
    order = list(sides.values())
    for side in order:
        for row in rows[:WARM_UP_ROWS]:
            side.answer(row.text)
    for _ in range(ROUNDS):
        for start in range(0, len(rows), TURN_ROWS):
            for side in order:
                side.take(rows[start : start + TURN_ROWS])
            order = order[1:] + order[:1]
    return {name: side.figures() for name, side in sides.items()}

"""The rows that candidates are judged on, test and reference rows, which no training saw; and the
training rows that a quantizer calibrates on."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import ExportError


@dataclass(frozen=True)
class GateRow:
    """A labelled text; `test` tells whether it is of the test split."""

    id: str
    text: str
    label: str
    test: bool


def read_gate_rows(dataset: Path) -> tuple[GateRow, ...]:
    """Test rows, then reference rows that are not test rows, from test.jsonl and reference.jsonl.

    Raises ExportError where there is no test row.
    """
    rows: dict[str, GateRow] = {}
    for split in ("test", "reference"):
        for row in _read(dataset, split):
            gate = GateRow(row["id"], row["text"], row["label"], split == "test")
            rows.setdefault(gate.id, gate)
    if not any(row.test for row in rows.values()):
        raise ExportError(f"{dataset}: no test row to judge candidates on; add some to the data")
    return tuple(rows.values())


def read_calibration_texts(dataset: Path, most: int) -> list[str]:
    """At most `most` texts, spread evenly over train.jsonl."""
    texts = [row["text"] for row in _read(dataset, "train")]
    chosen = np.linspace(0, len(texts) - 1, min(most, len(texts))).round()
    return [texts[int(i)] for i in chosen]


def _read(dataset: Path, split: str) -> Iterator[dict[str, str]]:
    # Not splitlines(): a text may hold U+2028, which JSON leaves as it is.
    for line in (dataset / f"{split}.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            yield json.loads(line)


def correct(
    logits: NDArray[np.float32], labels: Sequence[str], rows: Sequence[GateRow]
) -> NDArray[np.bool_]:
    """(rows,): does the class with the largest logit bear the row's label?"""
    answers = [labels[i] for i in logits.argmax(axis=1)]
    return np.array([answer == row.label for answer, row in zip(answers, rows, strict=True)])

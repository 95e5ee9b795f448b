"""The rows that candidates are judged on, test and reference rows, which no training saw; and the
training rows that candidates are made from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import ExportError
from edgeloop.rows import Row, TextInput, read_rows
from edgeloop.tasks import Task


@dataclass(frozen=True)
class GateRows:
    """Labelled rows, each once; `is_test` (rows,) tells which are of the test split."""

    rows: tuple[Row, ...]
    is_test: NDArray[np.bool_]


def read_gate_rows(dataset: Path) -> GateRows:
    """Test rows, then reference rows that are not test rows, from test.jsonl and reference.jsonl.

    Raises ExportError where there is no test row, DatasetError where the files do not read.
    """
    test = {row.id: row for row in read_rows(dataset, "test")}
    if not test:
        raise ExportError(f"{dataset}: no test row to judge candidates on; add some to the data")
    rows = dict(test)
    for row in read_rows(dataset, "reference"):
        rows.setdefault(row.id, row)
    return GateRows(tuple(rows.values()), np.array([row_id in test for row_id in rows]))


def read_training_inputs(dataset: Path, task: Task) -> list[TextInput]:
    """What the model reads of the training rows: all that the making of a candidate may look at."""
    return task.inputs(read_rows(dataset, "train"))

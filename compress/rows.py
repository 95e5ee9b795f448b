"""Which rows a candidate is made from, chosen on and certified on: three sets without a common row.

training rows    the making of a candidate may look at them
choosing rows    the validation split: thresholds, the shortlist and the order are taken from them
judging rows     test and reference rows, which nothing has seen: only the finalists' claims are
                 tested on them, once
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import ExportError
from edgeloop.rows import Row, read_rows


@dataclass(frozen=True)
class GateRows:
    """Labelled rows, each once; `is_test` (judging,) tells which of those are of the test split."""

    choosing: tuple[Row, ...]
    judging: tuple[Row, ...]
    is_test: NDArray[np.bool_]


def read_gate_rows(dataset: Path) -> GateRows:
    """validation.jsonl to choose on; test.jsonl, then what reference.jsonl adds, to judge on.

    Raises ExportError where there is no test row or no validation row that is not judged as well,
    DatasetError where the files do not read.
    """
    test = {row.id: row for row in read_rows(dataset, "test")}
    if not test:
        raise ExportError(f"{dataset}: no test row to judge candidates on; add some to the data")
    judging = dict(test)
    for row in read_rows(dataset, "reference"):
        judging.setdefault(row.id, row)
    choosing = tuple(row for row in read_rows(dataset, "validation") if row.id not in judging)
    if not choosing:
        raise ExportError(
            f"{dataset}: no validation row to choose among candidates on (rows of the test and "
            "reference splits only certify the choice); give data.split.validation a share"
        )
    is_test = np.array([row_id in test for row_id in judging])
    return GateRows(choosing, tuple(judging.values()), is_test)

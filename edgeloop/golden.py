"""Golden rows: what the shipped artefact answered to some test rows, and whether another run of it
still does. Made by ship, replayed by the server before every activation.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import GoldenRow
from edgeloop.models import Model
from edgeloop.rows import Row
from edgeloop.runtime import RowOutput
from edgeloop.tasks import Task

GOLDEN_ROWS = 128
# A vector takes as much room as a hundred labels.
GOLDEN_VECTORS = 32
LEAST_COSINE = 0.99
DECIMALS = 6


def make_golden(
    task: Task, model: Model, labels: Sequence[str], test_rows: Sequence[Row]
) -> list[GoldenRow]:
    """At most GOLDEN_ROWS test rows (GOLDEN_VECTORS where vectors are kept), the same ones as long
    as the test rows stay the same."""
    by_digest = sorted(test_rows, key=lambda row: hashlib.sha256(row.id.encode()).hexdigest())
    has_vectors = task.width(labels) == 0
    chosen = by_digest[: GOLDEN_VECTORS if has_vectors else GOLDEN_ROWS]
    # A text-embedding row is its anchor: the first of what the model reads of it.
    asked = task.inputs(chosen)[: len(chosen)]
    return [
        _golden(task, labels, row, output, has_vectors)
        for row, output in zip(chosen, model.score(asked), strict=True)
    ]


def _golden(
    task: Task, labels: Sequence[str], row: Row, output: RowOutput, has_vectors: bool
) -> GoldenRow:
    answer = task.answer(output, labels)
    vector = tuple(round(float(value), DECIMALS) for value in output.embedding)
    return GoldenRow(
        id=row.id,
        text=row.text,
        text_pair=None if has_vectors else row.text_pair,
        label=task.truth(row).label,
        expected=answer.label,
        score=round(answer.score, DECIMALS),
        vector=vector if has_vectors else None,
    )


def agrees(row: GoldenRow, output: RowOutput, task: Task, labels: Sequence[str]) -> bool:
    """Is the output the answer that the row promises: the same one, or a vector of a cosine of at
    least LEAST_COSINE?"""
    if row.vector is None:
        return task.answer(output, labels).label == row.expected
    expected = np.array(row.vector)
    if expected.shape != output.embedding.shape:
        return False
    lengths = float(np.linalg.norm(expected) * np.linalg.norm(output.embedding))
    return float(expected @ output.embedding) >= LEAST_COSINE * lengths


def difference(row: GoldenRow, output: RowOutput, task: Task, labels: Sequence[str]) -> float:
    """How far the output is from what the row promises, in [0, 1]: the change of the answer's
    probability, or 1 - cosine of vectors. Of another answer than the promised one, by how much the
    promised one's probability has fallen at least."""
    if row.vector is not None:
        return min(1.0, max(0.0, 1.0 - _cosine(np.array(row.vector), output.embedding)))
    answer = task.answer(output, labels)
    if answer.label == row.expected:
        return abs(answer.score - row.score)
    return max(0.0, row.score + answer.score - 1.0)


def _cosine(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    if one.shape != other.shape:
        return 0.0
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0

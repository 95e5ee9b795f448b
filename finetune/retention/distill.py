"""Distillation: the previous model's probabilities on the training rows, as soft targets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from edgeloop.rows import Row
from edgeloop.runtime import softmax
from edgeloop.tasks import sigmoid
from finetune.retention.previous import answers

Floats = NDArray[np.float64]
# Of the previous model's probabilities, what must lie on classes that the new model has.
MIN_SHARED_RATIO = 0.5


def soft_targets(
    previous: Bundle, rows: Sequence[Row], labels: Sequence[str]
) -> NDArray[np.float32]:
    """(rows, classes) in the order of `labels`; a row of NaN is not distilled: the previous model
    does not know its class, or puts most of its probability on classes that are gone.

    A class that the previous model lacks has probability 0. Raises EngineError where the previous
    model does not answer.
    """
    known = previous.manifest.labels
    logits = np.stack([output.logits for output in answers(previous, [r.input for r in rows])])
    if previous.manifest.task == "multi-label-classification":
        soft = _mapped(sigmoid(logits), known, labels)
    else:
        soft = _rescaled(_mapped(softmax(logits), known, labels))
    is_new = [any(label not in known for label in row.labels) for row in rows]
    soft[is_new] = np.nan
    return soft.astype(np.float32)


def _mapped(probabilities: Floats, known: Sequence[str], labels: Sequence[str]) -> Floats:
    """(rows, known classes) -> (rows, classes)."""
    mapped = np.zeros((len(probabilities), len(labels)))
    for column, label in enumerate(labels):
        if label in known:
            mapped[:, column] = probabilities[:, known.index(label)]
    return mapped


def _rescaled(probabilities: Floats) -> Floats:
    """To sums of 1; NaN where little is left to scale."""
    shared = probabilities.sum(axis=1, keepdims=True)
    enough = shared >= MIN_SHARED_RATIO
    return np.where(enough, probabilities / np.where(enough, shared, 1.0), np.nan)

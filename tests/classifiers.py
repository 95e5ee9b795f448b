"""A classifier whose true accuracy is known at every confidence."""

import numpy as np

from monitor.accuracy.fit import Bools, Floats

CLASSES = 6
FLOOR = 0.85


def draw(
    rows: int, rng: np.random.Generator, overconfidence: float = 2.0, shift: float = 0.0
) -> tuple[Floats, Bools]:
    """probabilities (rows, CLASSES) of a classifier whose logits are `overconfidence` times too
    large, and which answers are right; `shift` makes the texts harder."""
    logits = rng.normal(size=(rows, CLASSES)) * 0.5
    predicted = rng.integers(CLASSES, size=rows)
    logits[np.arange(rows), predicted] += rng.gamma(6.0, 0.9, size=rows) - shift
    honest = softmax(logits)
    truth = (honest.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return softmax(overconfidence * logits), truth == honest.argmax(axis=1)


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p: Floats = powers / powers.sum(axis=1, keepdims=True)
    return p

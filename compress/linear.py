"""Candidate linear-ngrams: a softmax or sigmoid regression over TF-IDF of n-grams, trained on the
labels and on what the teacher says of the same rows and of unlabelled texts. Writes linear.npz.

A row's target is a mixture of its label and the teacher's probabilities (Hinton, Vinyals and Dean
2015). The embedding, which drift is measured on, is the texts' latent semantic projection
(Deerwester et al. 1990).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse
from sklearn.utils.extmath import randomized_svd

from edgeloop.errors import ExportError
from edgeloop.linear import LinearArrays, read_text, weigh
from edgeloop.rows import Row, TextInput
from edgeloop.runtime import softmax
from edgeloop.tasks import sigmoid

Floats = NDArray[np.float32]
# Logits and targets (rows, classes) -> the loss of all rows, and its gradient by the logits.
Loss = Callable[[Floats, Floats], tuple[float, Floats]]

# An n-gram of fewer texts says nothing about others.
LEAST_TEXTS = 2
MOST_NGRAMS = 30_000
DIMENSIONS = 64
LABEL_SHARE = 0.5
# Of half the squared weights, against the summed loss of the rows: the n-grams are more than they.
PENALTY = 0.01
MOST_ITERATIONS = 100
REMEMBERED_STEPS = 6
LARGEST_INT8 = 127


def train_linear(
    rows: Sequence[Row],
    teacher_logits: Floats,
    unlabelled: Sequence[TextInput],
    unlabelled_logits: Floats,
    task: str,
    labels: Sequence[str],
    seed: int,
    max_tokens: int,
) -> LinearArrays:
    """The teacher's logits are (rows, classes) and (unlabelled, classes), in the order of `labels`.
    The same input gives the same arrays.

    Raises ExportError where the task does not classify texts, or no two texts share an n-gram.
    """
    kind = _kind(task)
    texts = [*(row.input for row in rows), *unlabelled]
    vocabulary = _read(texts, max_tokens)
    soft = kind.probabilities(np.concatenate([teacher_logits, unlabelled_logits]))
    hard = _hard(rows, labels)
    targets = soft.astype(np.float32)
    targets[: len(rows)] = LABEL_SHARE * hard + (1.0 - LABEL_SHARE) * targets[: len(rows)]
    weights, bias = _fit(vocabulary.features, targets, kind.loss)
    dimensions = min(DIMENSIONS, min(vocabulary.features.shape) - 1)
    projection = randomized_svd(vocabulary.features, max(dimensions, 1), random_state=seed)[2].T
    table, row_scale, column_scale = quantize(np.concatenate([weights, projection], axis=1))
    return LinearArrays(
        ngrams=vocabulary.ngrams,
        table=table,
        idf=vocabulary.idf,
        row_scale=row_scale,
        column_scale=column_scale,
        bias=bias,
    )


@dataclass(frozen=True)
class _Kind:
    probabilities: Callable[[Floats], NDArray[np.float64]]
    loss: Loss


def _softmax_loss(logits: Floats, targets: Floats) -> tuple[float, Floats]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponent = np.exp(shifted)
    total = exponent.sum(axis=1, keepdims=True)
    loss = float(np.log(total).sum() - (targets * shifted).sum())
    gradient: Floats = exponent / total - targets
    return loss, gradient


def _sigmoid_loss(logits: Floats, targets: Floats) -> tuple[float, Floats]:
    loss = float((np.logaddexp(0.0, logits) - targets * logits).sum())
    gradient: Floats = sigmoid(logits).astype(np.float32) - targets
    return loss, gradient


KINDS = {
    "text-classification": _Kind(softmax, _softmax_loss),
    "multi-label-classification": _Kind(sigmoid, _sigmoid_loss),
}


def _kind(task: str) -> _Kind:
    if task not in KINDS:
        raise ExportError(
            f"linear-ngrams answers {' and '.join(KINDS)}, not {task}; leave it out of "
            "compress.candidates"
        )
    return KINDS[task]


def _hard(rows: Sequence[Row], labels: Sequence[str]) -> Floats:
    """1 where a row has the label: (rows, classes)."""
    column = {label: i for i, label in enumerate(labels)}
    hard = np.zeros((len(rows), len(labels)), dtype=np.float32)
    for i, row in enumerate(rows):
        hard[i, [column[label] for label in row.labels]] = 1.0
    return hard


@dataclass(frozen=True)
class _Vocabulary:
    """`features` (texts, n-grams): every text's weighed n-grams, as the runtime weighs them."""

    ngrams: tuple[str, ...]
    idf: Floats
    features: sparse.csr_matrix


def _read(texts: Sequence[TextInput], max_tokens: int) -> _Vocabulary:
    counted = [Counter(read_text(text, max_tokens).ngrams) for text in texts]
    frequency = Counter(ngram for counts in counted for ngram in counts)
    usual = [(-times, ngram) for ngram, times in frequency.items() if times >= LEAST_TEXTS]
    ngrams = tuple(sorted(ngram for _, ngram in sorted(usual)[:MOST_NGRAMS]))
    if not ngrams:
        raise ExportError(
            f"linear-ngrams: no n-gram stands in {LEAST_TEXTS} of {len(texts)} training texts; "
            "add rows, or leave it out of compress.candidates"
        )
    texts_with = np.array([frequency[ngram] for ngram in ngrams], dtype=np.float64)
    idf = (np.log((1.0 + len(texts)) / (1.0 + texts_with)) + 1.0).astype(np.float32)
    return _Vocabulary(ngrams, idf, _features(counted, ngrams, idf))


def _features(
    counted: Sequence[Counter[str]], ngrams: Sequence[str], idf: Floats
) -> sparse.csr_matrix:
    column = {ngram: i for i, ngram in enumerate(ngrams)}
    columns, weights, ends = [], [], [0]
    for counts in counted:
        known = {column[ngram]: times for ngram, times in counts.items() if ngram in column}
        own = np.fromiter(known, np.int32, len(known))
        columns.append(own)
        weights.append(weigh(np.fromiter(known.values(), np.float32, len(known)), idf[own]))
        ends.append(ends[-1] + len(own))
    parts = (np.concatenate(weights), np.concatenate(columns), np.array(ends))
    return sparse.csr_matrix(parts, shape=(len(counted), len(ngrams)), dtype=np.float32)


def _fit(features: sparse.csr_matrix, targets: Floats, loss: Loss) -> tuple[Floats, Floats]:
    """Weights (n-grams, classes) and bias (classes,) by L-BFGS."""
    count, classes = features.shape[1], targets.shape[1]
    transposed = features.T.tocsr()

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        both = flat.reshape(count + 1, classes).astype(np.float32)
        value, gradient = loss(features @ both[:-1] + both[-1], targets)
        slope = np.concatenate([transposed @ gradient, gradient.sum(axis=0, keepdims=True)])
        own = flat[: count * classes]
        step = slope.astype(np.float64).reshape(-1)
        step[: count * classes] += PENALTY * own
        return value + 0.5 * PENALTY * float(own @ own), step

    start = np.zeros((count + 1) * classes)
    options = {"maxiter": MOST_ITERATIONS, "maxcor": REMEMBERED_STEPS}
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    best = found.x.reshape(count + 1, classes).astype(np.float32)
    return best[:-1], best[-1]


def quantize(values: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
    """int8 (rows, columns), row_scale (rows,) and column_scale (columns,): the columns are brought
    to one spread first, so that a row's scale wastes no step on any of them."""
    spread = np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=0))
    column_scale = np.where(spread > 0.0, spread, 1.0).astype(np.float32)
    even = values / column_scale
    largest = np.abs(even).max(axis=1)
    row_scale = (np.where(largest > 0.0, largest, 1.0) / LARGEST_INT8).astype(np.float32)
    table = np.rint(even / row_scale[:, None]).astype(np.int8)
    return table, row_scale, column_scale

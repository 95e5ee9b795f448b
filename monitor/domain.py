"""Can a classifier tell recent rows from reference rows? If not, nothing that it reads has moved;
if it can, its AUC says how far they are apart, whatever the number of rows.

A logistic regression is fitted on four fifths of the rows and ranks the fifth that it has not seen,
five times over. Source: Lopez-Paz and Oquab, "Revisiting classifier two-sample tests" (2017).
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from monitor.words import words_of

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

FOLDS = 5
LEAST_ROWS = 20
BUCKETS = 2_048
STEPS = 60
POWER_STEPS = 8
RIDGE = 0.01
# Two folds' rankings share their rows: each pair of rows is compared by the model of one and of the
# other. For a linear model that makes the variance of the mean twice that of independent folds.
SHARED_VARIANCE = 2.0


@dataclass(frozen=True)
class Separation:
    """`auc`: how often a recent row is ranked above a reference row, 0.5 by chance; `p_value` of an
    AUC as high where both come from one distribution, one-sided, by a normal approximation."""

    auc: float
    p_value: float
    reference_rows: int
    recent_rows: int


def separate(reference: Features, recent: Features, seed: int = 0) -> Separation | None:
    """Features (n, d) and (m, d), all finite -> how well they are told apart; None below LEAST_ROWS
    of either."""
    n, m = len(reference), len(recent)
    if min(n, m) < LEAST_ROWS:
        return None
    rng = np.random.default_rng([seed, 7])
    fold = np.concatenate([rng.permutation(n) % FOLDS, rng.permutation(m) % FOLDS])
    rows = np.concatenate([reference, recent])
    is_recent = np.arange(n + m) >= n
    aucs, variances = [], []
    for held in range(FOLDS):
        fitted, ranked = fold != held, fold == held
        weights = _fit(rows[fitted], is_recent[fitted])
        scores = rows[ranked] @ weights
        recent_scores, other = scores[is_recent[ranked]], scores[~is_recent[ranked]]
        auc, variance = rank_auc(recent_scores, other)
        aucs.append(auc)
        variances.append(variance)
    deviation = math.sqrt(SHARED_VARIANCE * sum(variances)) / FOLDS
    mean = sum(aucs) / FOLDS
    p = 0.5 * math.erfc((mean - 0.5) / deviation / math.sqrt(2.0)) if deviation > 0.0 else 1.0
    return Separation(mean, p, n, m)


def rank_auc(high: Floats | Features, low: Floats | Features) -> tuple[float, float]:
    """AUC of scores that ought to be `high` over `low` ones, and its variance where both are of one
    distribution, with Mann and Whitney's correction for ties."""
    n, m = len(high), len(low)
    ordered = np.sort(low)
    below = np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")
    _, ties = np.unique(np.concatenate([high, low]), return_counts=True)
    total = n + m
    tied = float(np.sum(ties.astype(np.float64) ** 3 - ties)) / (total * (total - 1.0))
    return float(below.sum()) / (2.0 * n * m), (total + 1.0 - tied) / (12.0 * n * m)


def _fit(rows: Features, is_recent: NDArray[np.bool_]) -> Features:
    """Ridge logistic regression by accelerated gradient steps; both classes weigh the same. The
    constant is left out: it changes no ranking once the rows are centred."""
    means = rows.mean(axis=0)
    spread = np.sqrt(np.mean(rows * rows) - np.mean(means * means)) + np.float32(1e-12)
    centred = (rows - means) / spread
    weight = np.where(is_recent, 0.5 / is_recent.sum(), 0.5 / (~is_recent).sum())
    signed = np.where(is_recent, 1.0, -1.0).astype(np.float32)
    ridge = RIDGE * rows.shape[1]
    step = np.float32(1.0 / (0.25 * _largest_curvature(centred, weight) + ridge))
    point = ahead = np.zeros(rows.shape[1], dtype=np.float32)
    for number in range(STEPS):
        slope = weight * signed / (1.0 + np.exp(np.clip(signed * (centred @ ahead), -30.0, 30.0)))
        following = ahead + step * (slope.astype(np.float32) @ centred - ridge * ahead)
        ahead = following + np.float32(number / (number + 3.0)) * (following - point)
        point = following
    weights: Features = point / spread
    return weights


def _largest_curvature(rows: Features, weight: Floats) -> float:
    """The largest eigenvalue of the weighted rows' second moments, from above."""
    vector = np.ones(rows.shape[1], dtype=np.float32)
    value = 1.0
    for _ in range(POWER_STEPS):
        vector /= np.float32(max(float(np.linalg.norm(vector)), 1e-12))
        vector = (weight * (rows @ vector)).astype(np.float32) @ rows
        value = float(np.linalg.norm(vector))
    return 1.2 * value + 1e-6


def hashed_ngrams(texts: Sequence[str]) -> Features:
    """(n, BUCKETS), rows of length 1: which words and pairs of neighbouring words a text has, by
    hash. No word is kept. A text without words is a row of zeros."""
    features = np.zeros((len(texts), BUCKETS), dtype=np.float32)
    for row, text in enumerate(texts):
        words = text.casefold().split()
        grams = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
        for gram in grams:
            features[row, zlib.crc32(gram.encode("utf-8", "surrogatepass")) % BUCKETS] = 1.0
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    scaled: Features = features / np.maximum(lengths, np.float32(1.0))
    return scaled


def standardised(reference: Features, recent: Features) -> tuple[Features, Features]:
    """Embeddings (n, d), (m, d), each dimension with mean 0 and variance 1 over both together."""
    both = np.concatenate([reference, recent])
    mean, deviation = both.mean(axis=0), both.std(axis=0)
    scale = np.where(deviation > 0.0, deviation, 1.0).astype(np.float32)
    return (reference - mean) / scale, (recent - mean) / scale


def in_bins(rows: Floats, edges: Sequence[Floats]) -> Features:
    """A table's rows (n, features) as indicators of each feature's bin, the last that of NaN."""
    blocks = []
    for column, own in zip(rows.T, edges, strict=True):
        bins = np.where(np.isnan(column), len(own) + 1, np.searchsorted(own, column, "left"))
        blocks.append(np.eye(len(own) + 2, dtype=np.float32)[bins])
    return np.concatenate(blocks, axis=1)


def word_counts(texts: Sequence[str]) -> dict[str, int]:
    """In how many of the texts each word stands that may be shown (words.words_of)."""
    counts: dict[str, int] = {}
    for text in texts:
        for word in words_of(text):
            counts[word] = counts.get(word, 0) + 1
    return counts

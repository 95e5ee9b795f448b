"""What a report keeps of scored rows: a few numbers per row, the predicted classes, and samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.records import Movement
from edgeloop.rows import whole_text
from monitor.accuracy.fit import AccuracyFit
from monitor.domain import word_counts
from monitor.scored import Scored
from monitor.tables import ArrayTable
from monitor.two_samples import chi_squared_tail
from monitor.words import LEAST_RECENT_ROWS, risen_words

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# What is known of rows whose texts the model has not read here; named as in monitor.features.
FEATURES = ("confidence", "entropy", "token_length", "characters_per_token", "characters")
UNKNOWN_CLASS = -1
# Classes that few rows are expected in are counted together.
LEAST_EXPECTED = 5.0


@dataclass
class Gathered:
    """Of every row, in order: the features `names`, which the bundle's secondary detectors watch,
    and FEATURES (NaN where unknown), the predicted class, whether the answer was right, the time,
    and what `accuracy` makes of it."""

    names: tuple[str, ...] = ()
    accuracy: AccuracyFit | None = None
    _features: list[Floats] = field(default_factory=list)
    _predicted: list[Counts] = field(default_factory=list)
    _right: list[Floats] = field(default_factory=list)
    _times: list[Floats] = field(default_factory=list)
    _estimates: list[Floats] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """All features that can be known."""
        return tuple(dict.fromkeys((*self.names, *FEATURES)))

    def add(self, chunk: Scored) -> None:
        """Take a chunk."""
        self._features.append(self._read(chunk))
        finite = np.isfinite(chunk.probabilities).all(axis=1)
        best = np.where(np.isfinite(chunk.probabilities), chunk.probabilities, -1.0).argmax(axis=1)
        self._predicted.append(np.where(finite, best, UNKNOWN_CLASS))
        self._right.append(chunk.right)
        self._times.append(chunk.times)
        if self.accuracy is not None:
            estimates = np.full((len(chunk), 2), np.nan)
            kept = chunk.probabilities[finite]
            estimates[finite, 0] = self.accuracy.are_above(kept)
            estimates[finite, 1] = self.accuracy.confidences(kept)
            self._estimates.append(estimates)

    def _read(self, chunk: Scored) -> Floats:
        known = _derived(chunk)
        if chunk.features is not None:
            known.update(zip(self.names, chunk.features.T, strict=True))
        unknown = np.full(len(chunk), np.nan)
        return np.stack([known.get(name, unknown) for name in self.columns], axis=1)

    @property
    def rows(self) -> int:
        return sum(map(len, self._right))

    def table(self, name: str) -> ArrayTable:
        """The features that are known of any row."""
        values = np.concatenate(self._features)
        known = np.flatnonzero((~np.isnan(values)).any(axis=0))
        columns = tuple(self.columns[place] for place in known)
        return ArrayTable(name, columns, values[:, known])

    def classes(self, count: int, start: int = 0, stop: int | None = None) -> Counts:
        """How many of the rows [start, stop) were put in each class, (count,)."""
        predicted = np.concatenate(self._predicted)[start:stop]
        return np.bincount(predicted[predicted != UNKNOWN_CLASS], minlength=count)

    @property
    def right(self) -> Floats:
        """1, 0 or NaN for each row."""
        return np.concatenate(self._right)

    @property
    def estimates(self) -> Floats:
        """For each row whether ATC takes it for right (1 or 0), and the calibrated probability that
        it is (CBPE), (rows, 2); NaN where not finite, no rows without `accuracy`."""
        return np.concatenate([np.empty((0, 2)), *self._estimates])

    @property
    def times(self) -> Floats:
        """Unix seconds or NaN of each row."""
        return np.concatenate(self._times)


def _derived(chunk: Scored) -> dict[str, Floats]:
    """FEATURES as far as they are known."""
    probabilities = chunk.probabilities
    unknown = np.full(len(chunk), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(probabilities > 0.0, np.log(probabilities), 0.0)
    one_class = probabilities.shape[1] == 1
    confidence = unknown if one_class else probabilities.max(axis=1)
    entropy = unknown if one_class else -(probabilities * logs).sum(axis=1)
    tokens = unknown if chunk.tokens is None else chunk.tokens
    characters = unknown
    if chunk.texts is not None:
        characters = np.array([len(whole_text(text)) for text in chunk.texts], dtype=np.float64)
    per_token = characters / np.maximum(tokens, 1.0)
    columns = (confidence, entropy, tokens, per_token, characters)
    return dict(zip(FEATURES, columns, strict=True))


@dataclass(frozen=True)
class ClassMix:
    """Predicted classes, the most moved first; counts (classes,). `p_value`: Pearson's chi-squared
    test of "the shares are the same"."""

    labels: tuple[str, ...]
    reference_counts: Counts
    recent_counts: Counts
    p_value: float


def class_mix(labels: Sequence[str], reference: Counts, recent: Counts) -> ClassMix | None:
    """None where one of the counts is empty or there is one class alone."""
    if min(reference.sum(), recent.sum()) == 0 or len(labels) < 2:
        return None
    moved = np.abs(recent / recent.sum() - reference / reference.sum())
    order = np.argsort(-moved, kind="stable")
    return ClassMix(
        tuple(labels[place] for place in order),
        reference[order],
        recent[order],
        same_shares_p(reference, recent),
    )


def same_shares_p(first: Counts, second: Counts) -> float:
    """Pearson's chi-squared test of two counts (classes,); classes that fewer than LEAST_EXPECTED
    rows are expected in are counted as one."""
    pooled = first + second
    smaller = min(first.sum(), second.sum()) / pooled.sum()
    rare = pooled * smaller < LEAST_EXPECTED
    table = np.stack([np.append(own[~rare], own[rare].sum()) for own in (first, second)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return chi_squared_tail(statistic, table.shape[1] - 1)


def separating_words(
    reference: dict[str, int], reference_rows: int, texts: Sequence[Any]
) -> tuple[tuple[Movement, ...], tuple[Movement, ...]]:
    """Words that rose and words that fell, in rows of recent texts against the reference's counts;
    only those of LEAST_RECENT_ROWS rows of the side that has more of them."""
    recent = word_counts([whole_text(text) for text in texts])
    risen = risen_words(recent, len(texts), reference, reference_rows)
    common = {word: n for word, n in reference.items() if n >= LEAST_RECENT_ROWS}
    fallen = risen_words(common, reference_rows, recent, len(texts))
    turned = tuple(
        Movement(name=m.name, reference_ratio=m.recent_ratio, recent_ratio=m.reference_ratio)
        for m in fallen
    )
    return risen, turned

"""The secondary detectors: one sequential detector per feature, and one of the predicted classes.

Every feature is cut into levels at the reference's quantiles: its probability transform, in steps,
so that ties need no randomness. A level below the reference's lowest value and one above its
highest catch what the reference never had; a level of their own have rows without the feature.
Each member of a detector bets on one shift: of a tail (either side), of the middle (either way),
of the missing rows; a detector's evidence is the mean of its members', an e-detector again (Shin,
Ramdas and Rinaldo 2022). Margins of MARGIN_DEVIATIONS keep the error of a finite reference from
counting as drift, as in monitor.eprocess.

Every array may carry leading axes, one per simulated stream.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

CLASS_MIX = "class_mix"
# Level 0 has the rows without the feature, 1 what lies below the reference, the last what lies
# above it; of the classes the commonest have a level each, the others share the last.
LEVELS = 17
MISSING = 0
QUANTILES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
DECILES = tuple(share / 10.0 for share in range(1, 10))
CLASS_LEVELS = LEVELS - 1
# 0: what the reference never had on this side.
TAIL_SHARES = (0.0, 0.01, 0.05, 0.2)
TAIL_BETS = (0.03, 0.1, 0.3)
MIDDLE_BETS = (0.03, 0.1, 0.3)
CLASS_BETS = (0.03, 0.2)
TAILS = 2 * len(TAIL_SHARES) + 1
MEMBERS = TAILS * len(TAIL_BETS) + 2 * len(MIDDLE_BETS)
MARGIN_DEVIATIONS = 3.0
# No bet may lose all that it has.
MOST_LOST = 0.9
EVIDENCE_CAP = 1e30
BINS = 10


class Scale(msgspec.Struct, frozen=True, array_like=True):
    """How a feature's values become levels: level 1 + (how many edges lie below the value). `bins`:
    the reference's decile of each level, `median` its median; of the classes the edges are none and
    `classes` has the level of each."""

    name: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    bins: tuple[int, ...]
    median: float
    classes: tuple[int, ...] = ()

    def check(self) -> None:
        """Raises ValueError where the parts do not fit together, as those of a damaged file."""
        counted = len(self.counts) == len(self.bins) == LEVELS and min(self.counts) >= 0
        rising = all(low < high for low, high in pairwise(self.edges))
        binned = all(0 <= own < BINS for own in self.bins)
        classed = all(0 <= own < CLASS_LEVELS for own in self.classes)
        if not (counted and rising and binned and classed and len(self.edges) <= LEVELS - 2):
            raise ValueError(f"the scale of {self.name!r} does not fit together")
        if not all(map(math.isfinite, (*self.edges, self.median))):
            raise ValueError(f"the scale of {self.name!r} is not finite")


def fit_scale(name: str, values: Floats) -> Scale:
    """The scale of a feature's reference values (rows,), NaN where a row has none."""
    known = values[~np.isnan(values)]
    if not known.size:
        return Scale(name, (), _counted(np.zeros(len(values), dtype=np.intp)), (0,) * LEVELS, 0.0)
    inner = np.quantile(known, QUANTILES, method="inverted_cdf")
    below = np.nextafter(known.min(), -np.inf)
    edges = np.unique(np.concatenate([[below], inner, [known.max()]]))
    levels = np.where(np.isnan(values), MISSING, 1 + np.searchsorted(edges, values, side="left"))
    return Scale(
        name,
        tuple(edges.tolist()),
        _counted(levels),
        _bins(edges, np.quantile(known, DECILES, method="inverted_cdf")),
        float(np.median(known)),
    )


def _bins(edges: Floats, deciles: Floats) -> tuple[int, ...]:
    """The decile, 0 to 9, of every level's highest value; equal deciles leave bins empty."""
    highest = np.append(edges, np.inf)
    own = np.searchsorted(deciles, highest, side="left")
    # Rows without the feature are counted in no bin; level 0 has a place for all that.
    filled = [0, *own.tolist()]
    return tuple(filled + [BINS - 1] * (LEVELS - len(filled)))


def fit_classes(predicted: NDArray[np.intp], classes: int) -> Scale:
    """The scale of the predicted classes (rows,): the commonest have a level of their own."""
    counts = np.bincount(predicted, minlength=classes)
    order = np.argsort(-counts, kind="stable")
    levels = np.empty(classes, dtype=np.intp)
    levels[order] = np.minimum(np.arange(classes), CLASS_LEVELS - 1)
    bins = np.minimum(np.arange(LEVELS), BINS - 1)
    return Scale(
        CLASS_MIX,
        (),
        _counted(levels[predicted]),
        tuple(bins.tolist()),
        0.0,
        tuple(levels.tolist()),
    )


def _counted(levels: NDArray[np.intp]) -> tuple[int, ...]:
    return tuple(np.bincount(levels, minlength=LEVELS).tolist())


def level_of(scale: Scale, value: float) -> int:
    """The level of a value; of the predicted class's number for the class mix."""
    if scale.classes:
        return scale.classes[int(value)]
    if value != value:  # NaN
        return MISSING
    return 1 + bisect_left(scale.edges, value)


def levels_of(scales: Sequence[Scale], values: Floats) -> NDArray[np.uint8]:
    """Levels (rows, features) of values (rows, features): level_of, of all rows at once."""
    found = np.empty(values.shape, dtype=np.uint8)
    for at, scale in enumerate(scales):
        own = values[:, at]
        if scale.classes:
            found[:, at] = np.array(scale.classes, dtype=np.uint8)[own.astype(np.intp)]
        else:
            placed = 1 + np.searchsorted(np.array(scale.edges), own, side="left")
            found[:, at] = np.where(np.isnan(own), MISSING, placed)
    return found


@dataclass(frozen=True)
class Shape:
    """What the members of each detector bet on; fixed by the reference's counts (features, levels).

    `tails` (features, TAILS, levels): which levels are in the tail. `is_class` (features,).
    `weights` (features, members): of the mean, 0 for members that are not used.
    """

    tails: NDArray[np.bool_]
    is_class: NDArray[np.bool_]
    weights: Floats


def shape_of(scales: Sequence[Scale]) -> Shape:
    """What the detectors of these scales bet on."""
    counts = np.array([scale.counts for scale in scales], dtype=np.int64)
    last = np.array([min(len(scale.edges), LEVELS - 2) for scale in scales])
    is_class = np.array([bool(scale.classes) for scale in scales])
    used = np.ones((len(scales), MEMBERS))
    for at, scale in enumerate(scales):
        if scale.classes:
            used[at] = 0.0
            used[at, : (max(scale.classes) + 1) * len(CLASS_BETS)] = 1.0
    weights = used / used.sum(axis=1, keepdims=True)
    return Shape(_tail_levels(counts, 1 + last), is_class, weights)


def _tail_levels(counts: Counts, last: NDArray[np.intp]) -> NDArray[np.bool_]:
    """(features, TAILS, levels): per share the lower and the upper tail, then the missing rows.
    The outermost level of either side is in every one of its tails."""
    level = np.arange(LEVELS)
    known = np.where(level == MISSING, 0, counts)
    rows = np.maximum(known.sum(axis=1, keepdims=True), 1)
    up_to = np.cumsum(known, axis=1) / rows
    from_on = np.cumsum(known[:, ::-1], axis=1)[:, ::-1] / rows
    tails = np.zeros((len(counts), TAILS, LEVELS), dtype=bool)
    for at, share in enumerate(TAIL_SHARES):
        tails[:, 2 * at] = (up_to <= share + 1e-12) & (level != MISSING)
        tails[:, 2 * at + 1] = (from_on <= share + 1e-12) & (level != MISSING)
        # Where all rows lie in one level its other side would be a tail as well.
        tails[:, 2 * at] &= level <= last[:, None]
        tails[:, 2 * at + 1] &= level > 1
    tails[:, TAILS - 1] = level == MISSING
    return tails


def payoffs(counts: Counts, shape: Shape) -> Floats:
    """What every member earns at every level: counts (..., features, levels) of a reference ->
    (..., features, levels, members)."""
    rows = counts.sum(axis=-1, keepdims=True)
    numeric = np.concatenate(
        [_tail_payoffs(counts, rows, shape), _middle_payoffs(counts, rows)], -1
    )
    classes = np.zeros_like(numeric)
    own = _indicator(np.eye(LEVELS, dtype=bool), counts, rows, CLASS_BETS)
    width = CLASS_LEVELS * len(CLASS_BETS)
    classes[..., :width] = own[..., :width]
    chosen: Floats = np.where(shape.is_class[:, None, None], classes, numeric)
    return chosen


def _tail_payoffs(counts: Counts, rows: Counts, shape: Shape) -> Floats:
    inside = np.einsum("ftl,...fl->...ft", shape.tails, counts)
    return _indicator(np.moveaxis(shape.tails, 1, 2), inside, rows, TAIL_BETS)


def _indicator(
    inside: NDArray[np.bool_], counts: Counts, rows: Counts, bets: Sequence[float]
) -> Floats:
    """1 + b (1{level in set} / rate - 1) for sets `inside` (..., levels, sets) of which the
    reference had `counts` (..., sets) rows; the rate is bounded from above."""
    observed = np.maximum(counts, 1) / rows
    deviation = np.sqrt(observed * (1.0 - observed) / rows)
    rates = np.minimum(observed + MARGIN_DEVIATIONS * deviation, 1.0)
    gain = inside / rates[..., None, :] - 1.0
    table = 1.0 + gain[..., None] * np.array(bets)
    flat: Floats = table.reshape(*table.shape[:-2], -1)
    return flat


def _middle_payoffs(counts: Counts, rows: Counts) -> Floats:
    """1 + b (+-s - margin), s the level's mid-rank less 1/2 in standard deviations; a row without
    the feature lies in the middle."""
    known = counts.copy()
    known[..., MISSING] = 0
    total = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    ranks = (np.cumsum(known, axis=-1) - known / 2.0) / total - 0.5
    ranks[..., MISSING] = 0.0
    spread = np.sqrt(np.sum(counts * ranks**2, axis=-1, keepdims=True) / rows)
    score = np.divide(ranks, spread, out=np.zeros_like(ranks), where=spread > 0.0)
    margin = MARGIN_DEVIATIONS / np.sqrt(rows)
    # (..., levels, sides)
    gain = np.stack([score, -score], axis=-1) - margin[..., None]
    worst = np.abs(score).max(axis=-1, keepdims=True) + margin
    bets = np.minimum(np.array(MIDDLE_BETS), MOST_LOST / worst)
    table = 1.0 + gain[..., None] * bets[..., None, None, :]
    flat: Floats = table.reshape(*table.shape[:-2], -1)
    return flat


def advance(evidence: NDArray[np.floating], earned: NDArray[np.floating]) -> None:
    """One row, in place: M <- min((M + 1) e, cap) for every member."""
    evidence += 1.0
    evidence *= earned
    np.minimum(evidence, EVIDENCE_CAP, out=evidence)


class Secondary:
    """The live secondary detectors. One caller, rows in order."""

    def __init__(self, scales: Sequence[Scale]) -> None:
        self.scales = tuple(scales)
        self.names = tuple(scale.name for scale in scales)
        shape = shape_of(scales)
        counts = np.array([scale.counts for scale in scales], dtype=np.int64)
        self._table = payoffs(counts, shape).reshape(-1, MEMBERS)
        self._weights = shape.weights
        self._first = tuple(range(0, len(scales) * LEVELS, LEVELS))
        self.evidence = np.zeros((len(scales), MEMBERS))

    def levels(self, values: Sequence[float]) -> list[int]:
        """The level of every feature's value."""
        return [level_of(scale, value) for scale, value in zip(self.scales, values, strict=True)]

    def update(self, levels: Sequence[int]) -> None:
        """Take a row by its levels."""
        at = [first + level for first, level in zip(self._first, levels, strict=True)]
        advance(self.evidence, self._table[at])

    def update_block(self, levels: NDArray[np.uint8]) -> Floats:
        """Take rows by their levels (rows, features); log_evidence after each, (rows, features)."""
        course = self._table[levels + np.array(self._first)]
        for row in course:
            advance(self.evidence, row)
            row[:] = self.evidence
        means = np.vecdot(course, self._weights)
        found: Floats = np.log(np.where(means > 0.0, means, 1.0))
        return found

    @property
    def log_evidence(self) -> Floats:
        """ln of each detector's mean evidence, (features,); 0 before the first row."""
        means = self._means()
        found: Floats = np.log(np.where(means > 0.0, means, 1.0))
        return found

    @property
    def highest_log_evidence(self) -> float:
        """The highest of log_evidence."""
        highest = float(self._means().max())
        return math.log(highest) if highest > 0.0 else 0.0

    def _means(self) -> Floats:
        means: Floats = np.vecdot(self.evidence, self._weights)
        return means

    def reset(self) -> None:
        """Start again against the same reference."""
        self.evidence[:] = 0.0

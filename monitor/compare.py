"""Has a table of features moved against a reference, which features, and when? In chunks: what is
held is a sample of the reference, counts, and a window.

Three questions, each asked once for all features, each with LEVEL as its chance of a false yes
where rows are independent: the deciles' counts (PSI), windows of the traffic (Kolmogorov-Smirnov,
Holm over all features and windows), and whether a classifier tells the rows apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from monitor.deciles import count_bins, decile_edges
from monitor.domain import Separation, in_bins, separate
from monitor.psi import psi, psi_threshold
from monitor.sampling import Reservoir
from monitor.tables import Table
from monitor.two_samples import holm, ks_test

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

LEVEL = 0.01
SAMPLE_ROWS = 20_000
CLASSIFIED_ROWS = 2_000
WINDOWS = 50
LEAST_WINDOW_ROWS = 200
# What is left at the end is a window of its own from so many rows on.
LEAST_TESTED_ROWS = 30
SEED = 0


@dataclass(frozen=True)
class FeatureDrift:
    """One feature. `edges`: of the reference's deciles; counts (len(edges) + 1,) without missing
    values, whose ratios are told apart and which are one more bin of the PSI; `distances` and
    `p_values` (windows,), of known values alone, the latter adjusted."""

    name: str
    edges: Floats
    reference_counts: Counts
    recent_counts: Counts
    reference_missing_ratio: float
    recent_missing_ratio: float
    reference_median: float
    recent_median: float
    psi: float
    psi_threshold: float
    distances: Floats
    p_values: Floats

    @property
    def has_moved(self) -> bool:
        """Its deciles or one of its windows say so."""
        return self.psi > self.psi_threshold or bool((self.p_values <= LEVEL).any())


@dataclass(frozen=True)
class Comparison:
    """`window_starts`: first row of each window, from 0; `left_out`: columns that were not
    compared."""

    reference: str
    recent: str
    reference_rows: int
    recent_rows: int
    features: tuple[FeatureDrift, ...]
    window_rows: int
    window_starts: tuple[int, ...]
    separation: Separation | None
    left_out: tuple[str, ...]


@dataclass
class _Side:
    """What is counted of one table."""

    counts: list[Counts]
    missing: Counts
    rows: int = 0


def compare_tables(
    reference: Table,
    traffic: Table,
    window_rows: int | None = None,
    recent_start: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Rows of the traffic from `recent_start` on against the reference, windows over all of it.

    Raises DatasetError where the tables share no column or one has no rows.
    """
    columns = tuple(name for name in reference.columns if name in traffic.columns)
    if not columns:
        raise DatasetError(
            f"{reference.name} and {traffic.name} share no column of numbers: "
            f"{', '.join(reference.columns)} and {', '.join(traffic.columns)}"
        )
    sample, known = _reference(reference, columns)
    progress(f"report: {known.rows:,} reference rows counted")
    edges = [decile_edges(column) for column in sample.T]
    known = _count_all(reference, columns, edges)
    width = window_rows or max(LEAST_WINDOW_ROWS, -(-traffic.rows // WINDOWS))
    passed = _Pass(sample, edges, width, recent_start)
    for chunk in traffic.chunks(columns):
        passed.take(chunk)
    passed.end()
    if passed.recent.rows == 0:
        raise DatasetError(f"{traffic.name}: has no rows to compare")
    progress(f"report: {passed.recent.rows:,} recent rows compared")
    return Comparison(
        reference=reference.name,
        recent=traffic.name,
        reference_rows=known.rows,
        recent_rows=passed.recent.rows,
        features=_features(columns, edges, known, passed),
        window_rows=width,
        window_starts=tuple(passed.starts),
        separation=_separate(sample, passed.sample.rows(), edges),
        left_out=tuple(
            dict.fromkeys(
                name
                for table in (reference, traffic)
                for name in (*table.columns, *table.left_out)
                if name not in columns
            )
        ),
    )


def _reference(table: Table, columns: Sequence[str]) -> tuple[Floats, _Side]:
    reservoir = Reservoir(SAMPLE_ROWS, SEED)
    for chunk in table.chunks(columns):
        reservoir.add(chunk)
    if reservoir.seen == 0:
        raise DatasetError(f"{table.name}: has no rows to compare with")
    return reservoir.rows(), _Side([], np.zeros(len(columns), dtype=np.int64), reservoir.seen)


def _count_all(table: Table, columns: Sequence[str], edges: Sequence[Floats]) -> _Side:
    side = _new_side(edges)
    for chunk in table.chunks(columns):
        _count(side, chunk, edges)
    return side


def _new_side(edges: Sequence[Floats]) -> _Side:
    counts = [np.zeros(len(own) + 1, dtype=np.int64) for own in edges]
    return _Side(counts, np.zeros(len(edges), dtype=np.int64))


def _count(side: _Side, chunk: Floats, edges: Sequence[Floats]) -> None:
    side.rows += len(chunk)
    for place, own in enumerate(edges):
        counted = count_bins(chunk[:, place], own)
        side.counts[place] += counted
        side.missing[place] += len(chunk) - int(counted.sum())


class _Pass:
    """One pass over the traffic."""

    def __init__(
        self, sample: Floats, edges: Sequence[Floats], window_rows: int, recent_start: int
    ) -> None:
        self.recent = _new_side(edges)
        self.sample = Reservoir(CLASSIFIED_ROWS, SEED)
        self.starts: list[int] = []
        self.distances: list[list[float]] = []
        self.p_values: list[list[float]] = []
        self._edges, self._width, self._recent_start = edges, window_rows, recent_start
        self.known = [np.sort(column[~np.isnan(column)]) for column in sample.T]
        self._window = Reservoir(min(window_rows, SAMPLE_ROWS), SEED)
        self._rows = 0

    def take(self, chunk: Floats) -> None:
        """Take a chunk, of any length."""
        recent = chunk[max(self._recent_start - self._rows, 0) :]
        if len(recent):
            _count(self.recent, recent, self._edges)
            self.sample.add(recent)
        while len(chunk):
            part = chunk[: self._width - self._window.seen]
            self._window.add(part)
            self._rows += len(part)
            chunk = chunk[len(part) :]
            if self._window.seen == self._width:
                self._test()

    def end(self) -> None:
        """Test what is left."""
        if self._window.seen >= LEAST_TESTED_ROWS:
            self._test()

    def _test(self) -> None:
        window = self._window.rows()
        tests = [
            ks_test(known, column[~np.isnan(column)])
            for known, column in zip(self.known, window.T, strict=True)
        ]
        self.starts.append(self._rows - self._window.seen)
        self.distances.append([test.distance for test in tests])
        self.p_values.append([test.p_value for test in tests])
        self._window = Reservoir(min(self._width, SAMPLE_ROWS), SEED)


def _features(
    columns: Sequence[str], edges: Sequence[Floats], known: _Side, passed: _Pass
) -> tuple[FeatureDrift, ...]:
    shape = (len(passed.starts), len(columns))
    distances = np.array(passed.distances).reshape(shape)
    p_values = holm(np.array(passed.p_values).reshape(shape))
    recent = passed.recent
    found = []
    for place, (name, own) in enumerate(zip(columns, edges, strict=True)):
        old, new = _counts(known, recent, place)
        found.append(
            FeatureDrift(
                name=name,
                edges=own,
                reference_counts=known.counts[place],
                recent_counts=recent.counts[place],
                reference_missing_ratio=float(known.missing[place] / known.rows),
                recent_missing_ratio=float(recent.missing[place] / recent.rows),
                reference_median=_median(passed.known[place]),
                recent_median=_median(passed.sample.rows()[:, place]),
                psi=float(psi(new, old)),
                psi_threshold=psi_threshold(
                    recent.rows, known.rows, len(new), LEVEL / len(columns)
                ),
                distances=distances[:, place],
                p_values=p_values[:, place],
            )
        )
    return tuple(found)


def _counts(known: _Side, recent: _Side, place: int) -> tuple[Counts, Counts]:
    """A feature's counts of both sides; missing values are a bin where one side has any."""
    if not known.missing[place] and not recent.missing[place]:
        return known.counts[place], recent.counts[place]
    old, new = (np.append(side.counts[place], side.missing[place]) for side in (known, recent))
    return old, new


def _median(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _separate(sample: Floats, recent: Floats, edges: Sequence[Floats]) -> Separation | None:
    rows = np.random.default_rng(SEED).permutation(len(sample))[:CLASSIFIED_ROWS]
    return separate(in_bins(sample[rows], edges), in_bins(recent, edges))

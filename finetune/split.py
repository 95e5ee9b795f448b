"""Divides rows into splits by shares. Which split a row lands in follows from the digest of its own
id, never from the order of the rows in the files: rows that are added anywhere move no others.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import TypeVar

from edgeloop.recipe import Split
from edgeloop.records import SPLITS
from edgeloop.rows import Row
from finetune.problems import Problems

T = TypeVar("T")

# More combinations of labels than these are no classes: most of them have a row or two.
MAX_COMBINATIONS = 50


def digest_ratio(text: str) -> float:
    """SHA-256 of a text as a number in [0, 1)."""
    first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return (first >> 11) / (1 << 53)  # 53 bits: what a float holds exactly


def divide(rows: Sequence[Row], split: Split, problems: Problems) -> dict[str, list[Row]]:
    """Rows per split: by time, by group, or by each row's own digest; in a split, rows keep their
    order.

    By time, the oldest rows train and the newest test. There the boundaries follow from how many
    rows there are: rows that are added newer than the others move the boundaries, and with them
    older rows from test towards train. That is what a split by time is for; use a group or neither
    where rows must stay.
    """
    shares = {name: split.shares()[name] for name in SPLITS if name in split.shares()}
    if split.time is not None:
        ordered = _by_time(rows, split.time, problems)
        return _cut(ordered, allocate(len(ordered), shares))
    placed = Placement.of([digest_ratio(row.key or row.id) for row in rows], shares)
    if split.group is None and split.stratify:
        stratify(rows, placed)
    names = list(shares)
    return {
        name: [row for row, place in zip(rows, placed.places, strict=True) if place == i]
        for i, name in enumerate(names)
    }


@dataclass
class Placement:
    """Each row's ratio in [0, 1), and the interval of [0, 1) that it is in (split 0 is train)."""

    ratios: list[float]
    bounds: list[tuple[float, float]]
    places: list[int]

    @classmethod
    def of(cls, ratios: list[float], shares: Mapping[str, float]) -> "Placement":
        """Every row in the interval that its ratio falls into."""
        ends = [*list(accumulate(shares.values()))[:-1], 1.0]
        bounds = list(zip([0.0, *ends[:-1]], ends, strict=True))
        return cls(ratios, bounds, [sum(ratio >= end for end in ends[:-1]) for ratio in ratios])

    def counts(self, positions: Iterable[int]) -> Counter[int]:
        """How many of these rows each split has."""
        return Counter(self.places[position] for position in positions)

    def distance(self, position: int, place: int) -> float:
        """How far a row's ratio is from a split's interval."""
        low, high = self.bounds[place]
        ratio = self.ratios[position]
        return max(low - ratio, ratio - high, 0.0)

    def pull(self, rows: Sequence[Row], positions: Iterable[int], place: int) -> None:
        """Move the nearest of these rows into a split."""
        nearest = min(positions, key=lambda i: (self.distance(i, place), rows[i].id))
        self.places[nearest] = place


def stratify(rows: Sequence[Row], placed: Placement) -> None:
    """Give every class a row in every split where it has as many rows as there are splits, and in
    train wherever it has one; every label and type of entity, too, is in train.

    Only the rows of a class that a split would lack are touched, so only those can move when rows
    are added.
    """
    for positions in _groups(rows, _classes(rows)):
        if len(positions) >= len(placed.bounds):
            for place in range(len(placed.bounds)):
                _fill(rows, positions, place, placed)
        else:
            _fill_train(rows, positions, placed)
    for positions in _groups(rows, _taught):
        _fill_train(rows, positions, placed)


def _classes(rows: Sequence[Row]) -> Callable[[Row], tuple[str, ...]]:
    """A row's class: its label, or its combination of labels where there are only a few."""
    several = any(len(row.labels) > 1 for row in rows)
    if several and len({row.label for row in rows}) > MAX_COMBINATIONS:
        return lambda row: ("",)
    return lambda row: (row.label,)


def _taught(row: Row) -> tuple[str, ...]:
    return (*row.labels, *{span.label for span in row.spans})


def _groups(rows: Sequence[Row], names_of: Callable[[Row], tuple[str, ...]]) -> list[list[int]]:
    """The positions of the rows of each name, by name."""
    found: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        for name in names_of(row):
            found.setdefault(name, []).append(position)
    return [found[name] for name in sorted(found)]


def _fill(rows: Sequence[Row], positions: Sequence[int], place: int, placed: Placement) -> None:
    """A row for a split that has none of these, from a split that has several of them."""
    counts = placed.counts(positions)
    if counts[place] == 0:
        givers = [i for i in positions if counts[placed.places[i]] > 1]
        placed.pull(rows, givers, place)


def _fill_train(rows: Sequence[Row], positions: Sequence[int], placed: Placement) -> None:
    if placed.counts(positions)[0] == 0:
        placed.pull(rows, positions, 0)


def allocate(count: int, shares: Mapping[str, float]) -> dict[str, int]:
    """How many of `count` rows each share takes: largest remainders, and no share empty while
    there is a row for it; the first share comes first where there are too few."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    for name in list(shares)[:count]:
        if counts[name] == 0:
            # The last of the largest gives, so that train never does while another can.
            counts[max(reversed(list(counts)), key=lambda other: counts[other])] -= 1
            counts[name] = 1
    return counts


def _cut(ordered: Sequence[T], counts: Mapping[str, int]) -> dict[str, list[T]]:
    ends = list(accumulate(counts.values()))
    return {
        name: list(ordered[end - counts[name] : end])
        for name, end in zip(counts, ends, strict=True)
    }


def _by_time(rows: Sequence[Row], column: str, problems: Problems) -> list[Row]:
    """Oldest first, rows of the same moment by their ids."""
    timed = []
    for row in rows:
        try:
            moment = datetime.fromisoformat(row.key)
        except ValueError:
            problems.add(
                f"{row.where}: {column} is {row.key!r}; write it like 2026-11-23T08:00:00Z"
            )
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        timed.append((moment, row.id, row))
    return [row for _, _, row in sorted(timed, key=lambda entry: entry[:2])]

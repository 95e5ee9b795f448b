"""Divides rows into splits by shares. Which split a row lands in depends on the rows' own digests,
never on their order in the files.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import TypeVar

from edgeloop.recipe import Split
from edgeloop.records import SPLITS
from finetune.data import Problems, Row

T = TypeVar("T")


def digest_ratio(text: str) -> float:
    """SHA-256 of a text as a number in [0, 1)."""
    first = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return (first >> 11) / (1 << 53)  # 53 bits: what a float holds exactly


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


def by_rank(
    rows: Sequence[Row], shares: Mapping[str, float], rank: Callable[[Row], str]
) -> dict[str, list[Row]]:
    """Within each label, rows in order of `rank` go to the shares one after another, so that a
    small class lands in every split. Within a split, rows keep their order."""
    by_label: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        by_label.setdefault(row.label, []).append(position)
    chosen: dict[str, list[int]] = {name: [] for name in shares}
    for label in sorted(by_label):
        ranked = sorted(by_label[label], key=lambda position: rank(rows[position]))
        _cut(ranked, allocate(len(ranked), shares), chosen)
    return {name: [rows[i] for i in sorted(positions)] for name, positions in chosen.items()}


def divide(rows: Sequence[Row], split: Split, problems: Problems) -> dict[str, list[Row]]:
    """Rows per split: by time, by group, stratified by label, or by each row's own digest."""
    shares = {name: split.shares()[name] for name in SPLITS if name in split.shares()}
    if split.time is not None:
        ordered = _by_time(rows, split.time, problems)
        chosen: dict[str, list[Row]] = {name: [] for name in shares}
        _cut(ordered, allocate(len(ordered), shares), chosen)
        return chosen
    if split.group is not None:
        return _by_digest(rows, shares, lambda row: row.key)
    if split.stratify:
        return by_rank(rows, shares, lambda row: hashlib.sha256(row.id.encode()).hexdigest())
    return _by_digest(rows, shares, lambda row: row.id)


def _cut(ranked: Sequence[T], counts: Mapping[str, int], chosen: dict[str, list[T]]) -> None:
    start = 0
    for name, count in counts.items():
        chosen[name] += ranked[start : start + count]
        start += count


def _by_digest(
    rows: Sequence[Row], shares: Mapping[str, float], subject: Callable[[Row], str]
) -> dict[str, list[Row]]:
    names = list(shares)
    bounds = list(accumulate(shares.values()))[:-1]
    chosen: dict[str, list[Row]] = {name: [] for name in names}
    for row in rows:
        ratio = digest_ratio(subject(row))
        chosen[names[sum(ratio >= bound for bound in bounds)]].append(row)
    return chosen


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

"""Streams of row numbers over a source's table of embeddings and probabilities.

Every detector, ours and the peers', sees the same numbers in the same order. A stream without
drift draws its rows independently, or in bursts of one class; a shift changes what is drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]

RAMP_ROWS = 2_000
RAMP_SHARE = 0.5
MIX_SHARE = 0.5


@dataclass(frozen=True)
class Source:
    """Rows of one model: the first `pool` of them are held out and have a class each (`kinds`).

    `groups` are rows of something new; `variants` are pool rows with a changed text, as (row
    numbers of the pool, row numbers of what they became).
    """

    name: str
    about: str
    embeddings: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    kinds: Ids
    groups: Mapping[str, Ids]
    variants: Mapping[str, tuple[Ids, Ids]]

    @property
    def pool(self) -> int:
        """How many rows the model has not seen."""
        return len(self.kinds)


def split(pool: int, reference_rows: int, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Row numbers of a reference and, disjoint from it, of the live pool."""
    order = rng.permutation(pool)
    return order[:reference_rows], order[reference_rows:]


def independent(live: Ids, shape: tuple[int, int], rng: np.random.Generator) -> Ids:
    """Rows drawn from the live pool: (time, streams)."""
    drawn: Ids = rng.choice(live, size=shape)
    return drawn


def bursty(
    live: Ids, kinds: Ids, shape: tuple[int, int], mean_burst: float, rng: np.random.Generator
) -> Ids:
    """Bursts of one class whose length is geometric with that mean: (time, streams)."""
    order = live[np.argsort(kinds[live], kind="stable")]
    counts = np.bincount(kinds[live], minlength=int(kinds.max()) + 1)
    first = np.concatenate(([0], np.cumsum(counts)[:-1]))
    begins = rng.random(shape) < 1.0 / mean_burst
    begins[0] = True
    # The class of the row that the burst began with, carried forward.
    began = np.maximum.accumulate(np.where(begins, np.arange(shape[0])[:, None], 0), axis=0)
    heads = kinds[rng.choice(live, size=shape)]
    kind = np.take_along_axis(heads, began, axis=0)
    within = (rng.random(shape) * counts[kind]).astype(np.int64)
    return order[first[kind] + within]


def bursty_order(rows: Ids, kinds: Ids, mean_burst: float, rng: np.random.Generator) -> Ids:
    """The same rows, each once, in bursts as `bursty` makes them while a class lasts: with 20 rows
    per class the mean is a twentieth shorter."""
    waiting: dict[int, list[int]] = {}
    for row in rng.permutation(rows).tolist():
        waiting.setdefault(int(kinds[row]), []).append(row)
    heads, taken, made = rng.permutation(rows).tolist(), set[int](), list[int]()
    while len(made) < len(rows):
        if made and rng.random() >= 1.0 / mean_burst and waiting[int(kinds[made[-1]])]:
            row = waiting[int(kinds[made[-1]])].pop()
        else:
            while heads[-1] in taken:
                heads.pop()
            row = heads.pop()
            waiting[int(kinds[row])].remove(row)
        taken.add(row)
        made.append(row)
    return np.array(made, dtype=np.int64)


@dataclass(frozen=True)
class Shift:
    """From its beginning on, `share` of the traffic is of `what`: a group or a variant of the
    source, or MIX. A ramp reaches the share after RAMP_ROWS rows."""

    name: str
    what: str
    share: float
    ramp: bool = False


MIX = "class mix"


def shifted(
    source: Source, live: Ids, shift: Shift, shape: tuple[int, int], rng: np.random.Generator
) -> Ids:
    """Rows after the change, (time, streams)."""
    if shift.what == MIX:
        return rng.choice(live[_other_mix(source.kinds[live], rng)], size=shape)
    share = np.full(shape[0], shift.share)
    if shift.ramp:
        share = shift.share * np.minimum(1.0, (np.arange(shape[0]) + 1) / RAMP_ROWS)
    is_new = rng.random(shape) < share[:, None]
    return np.where(is_new, rng.choice(_new(source, live, shift.what), size=shape),
                    independent(live, shape, rng))  # fmt: skip


def _new(source: Source, live: Ids, what: str) -> Ids:
    if what in source.groups:
        return source.groups[what]
    was, became = source.variants[what]
    # What the detector has seen in its reference must not come back with a typo.
    return became[np.isin(was, live)]


def _other_mix(kinds: Ids, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows still come: random classes that make up MIX_SHARE of the rows, at most by one
    class more; the others' share goes to them."""
    staying, rows = list[int](), 0
    for kind in rng.permutation(np.unique(kinds)).tolist():
        if rows >= MIX_SHARE * len(kinds):
            break
        staying.append(kind)
        rows += int(np.sum(kinds == kind))
    return np.isin(kinds, staying)

"""Streams without drift, drawn from the reference, as a detector would see them that knew only a
resample of it.

The simulation copies what happens in use: the error of a finite reference is what breaks textbook
thresholds, so each simulated reference is a resample, with a mean, tails and ratios of its own, and
traffic is drawn from all rows. Rows that depend on their neighbours are drawn in blocks of
consecutive rows, references and traffic alike.

Source: Kuensch, "The jackknife and the bootstrap for general stationary observations" (1989).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor import class_mix, tails, witness
from monitor.eprocess import advance, member_powers, member_weights
from monitor.witness import LAG

Integers = NDArray[np.integer]

SMALLEST_EVIDENCE = 1e-30


@dataclass(frozen=True)
class Rows:
    """The reference as the detector sees it, in order of arrival: whitened (n, components), scores
    (tail parts, n) and the kind of the predicted class (n,), one of `kind_count`."""

    parts: tuple[str, ...]
    whitened: NDArray[np.float32]
    scores: NDArray[np.float64]
    kinds: NDArray[np.intp]
    kind_count: int

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True)
class Dependence:
    """How far rows hang together: blocks of `block_rows` are drawn (1: single rows), and each part
    takes so many rows for one (`design_effects`, in the order of the parts)."""

    block_rows: int
    design_effects: tuple[float, ...]

    @property
    def name(self) -> str:
        """As in the record: none or blocks-b."""
        return "none" if self.block_rows == 1 else f"blocks-{self.block_rows}"


@dataclass(frozen=True)
class Plan:
    """How many references and how many streams each, and how long."""

    references: int
    streams: int
    length: int

    @property
    def paths(self) -> int:
        return self.references * self.streams


def independent(parts: tuple[str, ...]) -> Dependence:
    """Rows that do not hang together."""
    return Dependence(1, (1.0,) * len(parts))


def draw(rows: int, shape: tuple[int, int], block_rows: int, rng: np.random.Generator) -> Integers:
    """Row numbers (time, streams), in blocks of consecutive rows; the last row is followed by the
    first."""
    time, streams = shape
    starts = rng.integers(rows, size=(-(-time // block_rows), 1, streams))
    found: Integers = (starts + np.arange(block_rows)[:, None]) % rows
    return found.reshape(-1, streams)[:time]


@dataclass(frozen=True)
class Known:
    """What detectors know of their references; the first axis is the references.

    means (references, components) in the whitened space, per tail part its tails (references,
    shares), ratios (references, kinds); margin (rates,) and discount (bets,) are common to all.
    """

    means: NDArray[np.float32]
    tails: tuple[tails.Tails, ...]
    ratios: NDArray[np.float32]
    margin: NDArray[np.float32]
    discount: NDArray[np.float32]


def measure(rows: Rows, resamples: Integers, design_effects: tuple[float, ...]) -> Known:
    """What each of many references would know: resamples (references, n) are row numbers."""
    effects = dict(zip(rows.parts, design_effects, strict=True))
    count = np.stack([np.bincount(own, minlength=len(rows)) for own in resamples])
    kinds = np.stack([np.bincount(rows.kinds[own], minlength=rows.kind_count) for own in resamples])
    worth, components = resamples.shape[1], rows.whitened.shape[1]
    return Known(
        means=(count.astype(np.float32) @ rows.whitened) / np.float32(worth),
        tails=tuple(
            tails.fit_tails(scores[resamples], effects[part])
            for part, scores in zip(rows.parts[1:], rows.scores, strict=False)
        ),
        ratios=class_mix.ratios(kinds),
        margin=witness.margins(components, worth / effects["witness"]),
        discount=class_mix.discounts(rows.kind_count, worth / effects.get("class_mix", 1.0)),
    )


class Streams:
    """Many streams, a block of LAG rows after another. `own` (paths,) is the reference of each."""

    def __init__(self, rows: Rows, known: Known, own: Integers) -> None:
        self._rows, self._known, self._own = rows, known, own
        # (references, rows, tail parts, shares): every row as each reference sees it.
        self._exceeded = np.stack(
            [
                scores[None, :, None] > part.thresholds[:, None]
                for scores, part in zip(rows.scores, known.tails, strict=True)
            ],
            axis=2,
        )
        self._rates = [part.rates[own].T[:, None].astype(np.float32) for part in known.tails]
        shape = (len(own), rows.whitened.shape[1])
        self._directions = np.zeros((len(witness.RATES), *shape), dtype=np.float32)
        self._olds = np.zeros((LAG, *shape), dtype=np.float32)
        self._mix = np.repeat(known.ratios[own][None], len(class_mix.RATES), axis=0)
        self._old_kinds: NDArray[np.intp] | None = None

    def block(self, drawn: Integers) -> NDArray[np.float32]:
        """The next LAG rows of every stream, drawn (LAG, paths) -> what every member earns, before
        any power: (members, LAG, paths)."""
        earned = [self._witness(self._rows.whitened[drawn] - self._known.means[self._own])]
        exceeded = self._exceeded[self._own, drawn]  # (LAG, paths, tail parts, shares)
        for index, rates in enumerate(self._rates):
            earned.append(tails.payoffs(np.moveaxis(exceeded[..., index, :], -1, 0), rates))
        if "class_mix" in self._rows.parts:
            earned.append(self._class_mix(self._rows.kinds[drawn]))
        return np.concatenate(earned)

    def _witness(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        earned = []
        for rate, direction in enumerate(self._directions):
            rolled = witness.roll_block(direction, self._olds, rate)
            margin = self._known.margin[rate : rate + 1]
            earned.append(witness.payoffs(rolled[None, :LAG], z, margin))
            direction[:] = rolled[LAG]
        self._olds = z
        return np.concatenate(earned)

    def _class_mix(self, kinds: NDArray[np.intp]) -> NDArray[np.float32]:
        ratio = self._known.ratios[self._own[None], kinds]
        if self._old_kinds is None:  # nothing is LAG rows old yet: the mix is still the reference's
            recent = np.repeat(ratio[None], len(class_mix.RATES), axis=0)
        else:
            recent = class_mix.recent_block(self._mix, self._old_kinds, kinds)
            class_mix.roll_block(self._mix, self._old_kinds)
        self._old_kinds = kinds
        return class_mix.payoffs(recent, ratio, self._known.discount).astype(np.float32)


def earned_blocks(
    rows: Rows, dependence: Dependence, plan: Plan, rng: np.random.Generator
) -> Iterator[NDArray[np.float32]]:
    """What every member earns on rows without drift, (members, LAG, paths) a block."""
    resamples = draw(len(rows), (len(rows), plan.references), dependence.block_rows, rng).T
    known = measure(rows, resamples, dependence.design_effects)
    streams = Streams(rows, known, np.repeat(np.arange(plan.references), plan.streams))
    drawn = draw(len(rows), (plan.length, plan.paths), dependence.block_rows, rng)
    for start in range(0, plan.length - LAG + 1, LAG):
        yield streams.block(drawn[start : start + LAG])


def simulate(
    rows: Rows, dependence: Dependence, plan: Plan, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Highest log evidence so far of streams without drift: (references, streams, length), the
    length cut to whole LAGs."""
    powers = member_powers(rows.parts, dependence.design_effects)
    highest = highest_evidence(earned_blocks(rows, dependence, plan, rng), rows.parts, powers)
    return highest.reshape(plan.references, plan.streams, -1)


def highest_evidence(
    blocks: Iterable[NDArray[np.float32]], parts: tuple[str, ...], powers: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(paths, length) out of blocks (members, LAG, paths)."""
    weights = member_weights(parts).astype(np.float32)
    raised = powers.astype(np.float32)[:, None, None]
    evidence: NDArray[np.float32] | None = None
    means = []
    for earned in blocks:
        if evidence is None:
            evidence = np.zeros((len(weights), earned.shape[2]), dtype=np.float32)
        if np.any(raised != 1.0):
            earned **= raised
        means.append(run_block(evidence, earned, weights))
    highest = np.maximum.accumulate(np.concatenate(means), axis=0)
    return np.ascontiguousarray(np.log(np.maximum(highest, SMALLEST_EVIDENCE)).T)


def run_block(
    evidence: NDArray[np.float32], earned: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """`eprocess.advance` row by row: evidence (members, paths), in place, earned (members, rows,
    paths) -> the average evidence after each row (rows, paths)."""
    means = np.empty(earned.shape[1:], dtype=np.float32)
    for row in range(earned.shape[1]):
        advance(evidence, earned[:, row])
        np.dot(weights, evidence, out=means[row])
    return means

"""The class mix part: is a class that was predicted often of late predicted more often than in the
reference?

H are moving averages of the predicted class, of rows at least LAG old, that begin at the
reference's ratios pi. A row of class y earns e = ((1 - a) + a H(y) / pi(y)) / (1 + 4 a (c - 1) / n)
for each bet a: the divisor is what the error of ratios counted on n rows earns.
"""

import numpy as np
from numpy.typing import NDArray

from monitor.witness import LAG, first_axis

Floats = NDArray[np.floating]
Kinds = NDArray[np.intp]

RATES = np.array([1 / 64, 1 / 256, 1 / 1024], dtype=np.float32)
BETS = np.array([0.1, 0.4], dtype=np.float32)
MEMBERS = len(RATES) * len(BETS)
# The rarest of more classes are watched together, so that the state keeps to its size.
MOST_KINDS = 256
# As in witness: the reference's own error, and traffic that lies off by as much.
SAMPLES = 2.0
_ONE = np.float32(1.0)
_KEPT = (_ONE - RATES)[:, None]


def kinds_of_classes(counts: NDArray[np.integer]) -> Kinds:
    """(classes,): the kind that each class is watched as, by how often it was predicted."""
    if len(counts) <= MOST_KINDS:
        return np.arange(len(counts))
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    return np.minimum(rank, MOST_KINDS - 1)


def ratios(counts: NDArray[np.integer]) -> NDArray[np.float32]:
    """(..., kinds) counts to ratios; half a row is added to each, so that none is 0."""
    total = counts.sum(axis=-1, keepdims=True)
    found: NDArray[np.float32] = ((counts + 0.5) / (total + counts.shape[-1] / 2.0)).astype("f4")
    return found


def discounts(kinds: int, rows: float) -> NDArray[np.float32]:
    """(bets,): the most that each bet earns through the error of a reference worth `rows`
    independent rows."""
    return np.float32(1.0) / (1.0 + 2.0 * SAMPLES * BETS * np.float32((kinds - 1) / rows))


def payoffs(recent: Floats, ratio: Floats, discount: Floats) -> Floats:
    """What every member earns: recent (rates, ...) and reference ratio (...) of the row's own
    kind, discount (bets,) -> (members, ...)."""
    gain = recent / ratio - _ONE
    earned: Floats = gain[:, None] * first_axis(BETS, gain.ndim)
    earned += _ONE
    earned *= first_axis(discount, gain.ndim)
    return earned.reshape(MEMBERS, *gain.shape[1:])


def roll(mix: Floats, old: int) -> None:
    """One row, in place: mix (rates, kinds); `old` is the kind of the row LAG rows ago."""
    mix *= _KEPT
    mix[:, old] += RATES


def _weights() -> NDArray[np.float32]:
    """(rates, 1 + LAG, LAG): the weight of each old row in the moving average after i rows."""
    after, row = np.arange(1 + LAG)[:, None], np.arange(LAG)
    past = row < after
    age = np.where(past, after - 1 - row, 0)
    rates = RATES[:, None, None].astype(np.float64)
    table: NDArray[np.float32] = np.where(past, rates * (1.0 - rates) ** age, 0.0).astype("f4")
    return table


WEIGHTS = _weights()
DECAYS = (1.0 - RATES.astype(np.float64)[:, None]) ** np.arange(1 + LAG)


def recent_block(mix: Floats, olds: Kinds, kinds: Kinds) -> Floats:
    """The moving averages of each row's own kind before that row, LAG rows of many streams: mix
    (rates, streams, all kinds), olds and kinds (LAG, streams) -> (rates, LAG, streams)."""
    streams = np.arange(mix.shape[1])
    begun = mix[:, streams, kinds] * DECAYS[:, :LAG, None].astype(np.float32)
    same = (olds[None] == kinds[:, None]).astype(np.float32)  # (row, old, stream)
    found: Floats = begun + np.einsum("rio,ios->ris", WEIGHTS[:, :LAG], same, optimize=False)
    return found


def roll_block(mix: Floats, olds: Kinds) -> None:
    """`roll` LAG times, in place: mix (rates, streams, kinds), olds (LAG, streams)."""
    _, streams, kinds = mix.shape
    cells = (np.arange(streams) * kinds + olds).ravel()
    for own, decay, weights in zip(mix, DECAYS[:, LAG], WEIGHTS[:, LAG], strict=True):
        added = np.bincount(cells, np.repeat(weights, streams), minlength=streams * kinds)
        own *= np.float32(decay)
        own += added.reshape(streams, kinds).astype(np.float32)

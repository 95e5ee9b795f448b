"""Do neighbouring rows hang together, and how far? Bursts, retries and sessions put rows of one
kind next to each other; a threshold for independent rows then breaks its promise.

Where they do, the simulation draws blocks of consecutive rows, and every part takes as many rows
for one as its own bets vary more in sum than independent ones would (the design effect, Kish 1965).
"""

import math

import numpy as np
from numpy.typing import NDArray

from monitor.eprocess import MEMBERS
from monitor.simulate import Dependence, Plan, Rows, earned_blocks, independent

Kinds = NDArray[np.intp]

LEVEL = 0.01
PERMUTATIONS = 999
PERMUTED_AT_ONCE = 111
# A client's rows may alternate with others': the second look is at so many rows back.
NEAR_ROWS = 8
# Bursts longer than this are not measured but refused.
FAR_ROWS = 64
# Standard errors above which an agreement stands out.
CLEAR = 3.0
# Blocks cut few bursts where they are many times as long.
BLOCK_BURSTS = 8
FEWEST_BLOCK_ROWS = 16
PILOT = Plan(references=32, streams=4, length=2_048)
# Before that the slow moving averages have hardly begun.
PILOT_SKIPPED = 512
WINDOW_BLOCKS = 4


def agreement(kinds: Kinds, lag: int) -> float:
    """How many rows share their kind with the row `lag` rows before."""
    return float(np.sum(kinds[lag:] == kinds[:-lag]))


def neighbours_agree_p(kinds: Kinds, seed: int) -> float:
    """Permutation p-value of "rows near one another share a kind no more often than chance": the
    smaller of two looks, the row before and the NEAR_ROWS rows before, doubled."""
    rng = np.random.default_rng([seed, 4])
    seen = _looks(kinds[None])
    as_many = np.ones(2)
    for _ in range(PERMUTATIONS // PERMUTED_AT_ONCE):
        shuffled = rng.permuted(np.repeat(kinds[None], PERMUTED_AT_ONCE, axis=0), axis=1)
        as_many += np.sum(_looks(shuffled) >= seen, axis=1)
    return min(1.0, 2.0 * float(as_many.min()) / (PERMUTATIONS + 1))


def _looks(orders: Kinds) -> NDArray[np.int64]:
    """(2, orders): agreements with the row before, and with the NEAR_ROWS rows before."""
    lags = range(1, min(NEAR_ROWS, orders.shape[1] - 1) + 1)
    each = [np.sum(orders[:, lag:] == orders[:, :-lag], axis=1) for lag in lags]
    return np.stack([each[0], np.sum(each, axis=0)])


def burst_rows(kinds: Kinds) -> float:
    """Mean number of rows that hang together, at least 1: of bursts of mean length m, two rows that
    are j apart belong to the same one with probability (1 - 1/m)^j, which sums to m - 1."""
    rows = len(kinds)
    shares = np.bincount(kinds) / rows
    chance = float(np.sum(shares**2))
    if chance >= 1.0 or rows < 2:
        return 1.0
    lags = range(1, min(FAR_ROWS, rows - 1) + 1)
    excess = [(agreement(kinds, lag) / (rows - lag) - chance) / (1.0 - chance) for lag in lags]
    # Beyond the last lag that stands out there is only noise to sum.
    error = math.sqrt(chance / (1.0 - chance) / rows)
    standing_out = [lag for lag, value in zip(lags, excess, strict=True) if value > CLEAR * error]
    return max(1.0, 1.0 + sum(excess[: max(standing_out, default=1)]))


def block_rows(burst: float) -> int:
    """The length of the blocks that keep bursts of so many rows mostly whole."""
    return max(FEWEST_BLOCK_ROWS, math.ceil(BLOCK_BURSTS * burst))


def measure_dependence(rows: Rows, burst: float, seed: int) -> Dependence:
    """The design effect of every part on blocks of the reference."""
    dependence = Dependence(block_rows(burst), independent(rows.parts).design_effects)
    blocks = earned_blocks(rows, dependence, PILOT, np.random.default_rng([seed, 5]))
    logs = np.log(np.concatenate(list(blocks), axis=1)[:, PILOT_SKIPPED:])
    window = WINDOW_BLOCKS * dependence.block_rows
    effects, first = [], 0
    for part in rows.parts:
        own = logs[first : first + MEMBERS[part]]
        effects.append(max(1.0, float(_design_effects(own, window).max())))
        first += MEMBERS[part]
    return Dependence(dependence.block_rows, tuple(effects))


def _design_effects(logs: NDArray[np.float32], window: int) -> NDArray[np.float64]:
    """Variance of sums over `window` rows over that of independent rows: logs (members, rows,
    paths) -> (members,). Every path is compared with its own mean: what it has against its own
    reference is no dependence."""
    members, rows, paths = logs.shape
    windows = max(2, rows // window)
    length = rows // windows
    cut = logs[:, : windows * length].astype(np.float64)
    sums = cut.reshape(members, windows, length, paths).sum(axis=2)
    varied = sums.var(axis=1, ddof=1).mean(axis=1)
    single = cut.var(axis=1).mean(axis=1)
    effects: NDArray[np.float64] = varied / np.maximum(length * single, 1e-30)
    return effects

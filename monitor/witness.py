"""The witness part: do rows keep lying in the direction in which earlier ones left the reference?

Rows are whitened by the reference's principal components, so that without drift every direction
has mean 0 and deviation 1. Moving averages of rows that are at least LAG old say where traffic has
gone; a new row that lies in that direction earns: g = <Z, z> / |Z| - margin, e = 1 + lambda g. The
lag keeps a burst of like rows from testifying for itself.

Sources: the witness function of Gretton et al., "A kernel two-sample test" (2012), as a bet; the
moving averages at several rates as in NEWMA (Keriven, Garreau and Poli 2020).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Vectors = NDArray[np.float32]

RATES = np.array([1 / 32, 1 / 128, 1 / 512], dtype=np.float32)
BETS = np.array([0.03, 0.1, 0.25], dtype=np.float32)
MEMBERS = len(RATES) * len(BETS)
LAG = 32
# The lower clip keeps every bet above zero, the upper one keeps single rows from deciding.
LOWEST_GAIN, HIGHEST_GAIN = np.float32(-1.9), np.float32(4.0)
MARGIN_FACTOR = 1.5
# Traffic is no exact copy of the population that the reference was drawn from: it may lie off by as
# much as a second sample would. On held-out BANKING77 rows that also lowered the threshold by .7
# nats and the delays by a fifth, since fewer references had to be waited for.
SAMPLES = 2.0
FEWEST_COMPONENTS, MOST_COMPONENTS, ROWS_PER_COMPONENT = 8, 64, 16
# Components that hardly vary are rounding, not text.
SMALLEST_VARIANCE_RATIO = 1e-6
SMALLEST_NORM = np.float32(1e-12)
_ONE = np.float32(1.0)
_RATES = RATES[:, None]


@dataclass(frozen=True)
class Whitening:
    """z = projection (x - mean): projection (components, hidden), mean (hidden,)."""

    mean: Vectors
    projection: Vectors


def component_count(rows: int) -> int:
    """How many components a reference of so many rows can tell from noise."""
    return min(MOST_COMPONENTS, max(FEWEST_COMPONENTS, rows // ROWS_PER_COMPONENT))


def fit_whitening(unit: Vectors) -> Whitening:
    """Leading principal components of unit rows (n, hidden), each scaled to variance 1; a single
    one that is zero where the rows do not vary."""
    mean = unit.mean(axis=0, dtype=np.float64)
    centred: Vectors = unit - mean.astype(np.float32)
    variances, directions = _principal(centred)
    kept = variances > SMALLEST_VARIANCE_RATIO * max(float(variances[0]), float(SMALLEST_NORM))
    count = min(component_count(len(unit)), int(kept.sum()))
    if count == 0:
        return Whitening(mean.astype(np.float32), np.zeros((1, unit.shape[1]), dtype=np.float32))
    scaled = directions[:count] / np.sqrt(variances[:count, None])
    return Whitening(mean.astype(np.float32), scaled.astype(np.float32))


def _principal(centred: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variances, falling, and unit directions (components, hidden)."""
    rows, hidden = centred.shape
    values = centred.astype(np.float64)
    if hidden <= rows:
        variances, vectors = np.linalg.eigh(values.T @ values / rows)
        directions = vectors.T
    else:
        variances, vectors = np.linalg.eigh(values @ values.T / rows)
        spans = vectors.T @ values
        directions = spans / np.maximum(np.linalg.norm(spans, axis=1), SMALLEST_NORM)[:, None]
    # The sign of an eigenvector is arbitrary: without a rule it would depend on the machine.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    return variances[::-1], (directions * np.where(signs == 0, 1.0, signs)[:, None])[::-1]


def whiten(unit: Vectors, whitening: Whitening) -> Vectors:
    """Unit rows (n, hidden) -> (n, components)."""
    return np.asarray((unit - whitening.mean) @ whitening.projection.T, dtype=np.float32)


def margins(components: int, rows: float) -> Vectors:
    """(rates,): what the error of the reference's own mean earns, for a reference that is worth
    `rows` independent rows: |error|^2 is about components * SAMPLES / rows, the noise of a moving
    average components * rate / 2."""
    error = SAMPLES / rows
    noise = np.sqrt(error + RATES / 2.0)
    found: Vectors = (MARGIN_FACTOR * np.sqrt(components) * error / noise).astype(np.float32)
    return found


def payoffs(directions: Vectors, z: Vectors, margin: Vectors) -> Vectors:
    """What every member earns: directions (rates, ..., components), z (..., components), margin
    (rates,) -> (members, ...). A moving average that has not begun earns nothing."""
    along = np.einsum("r...k,...k->r...", directions, z)
    norm = np.sqrt(np.einsum("r...k,r...k->r...", directions, directions))
    gain = along / np.maximum(norm, SMALLEST_NORM) - first_axis(margin, along.ndim)
    # np.clip takes three times as long.
    gain = np.minimum(np.maximum(gain, LOWEST_GAIN), HIGHEST_GAIN)
    earned: Vectors = gain[:, None] * first_axis(BETS, gain.ndim)
    earned += _ONE
    return earned.reshape(-1, *gain.shape[1:])


def first_axis(values: Vectors, axes: int) -> Vectors:
    """(n,) to the shape in which it goes along the first of so many axes."""
    return values if axes == 1 else values.reshape(-1, *[1] * (axes - 1))


def roll(directions: Vectors, old: Vectors) -> None:
    """One row, in place: directions (rates, components), old (components,) is LAG rows old."""
    directions += _RATES * (old - directions)


def _decays() -> Vectors:
    """(rates, 1 + LAG, 1 + LAG): the moving average after i rows, out of the one before (column 0)
    and the rows (columns 1 to LAG)."""
    after, row = np.arange(1 + LAG)[:, None], np.arange(LAG)
    table = np.zeros((len(RATES), 1 + LAG, 1 + LAG))
    for rate, own in zip(RATES.astype(np.float64), table, strict=True):
        own[:, 0] = (1.0 - rate) ** np.arange(1 + LAG)
        past = row < after
        own[:, 1:] = np.where(past, rate * (1.0 - rate) ** np.where(past, after - 1 - row, 0), 0.0)
    return table.astype(np.float32)


DECAYS = _decays()


def roll_block(direction: Vectors, olds: Vectors, rate: int) -> Vectors:
    """`roll` LAG times for many streams and one rate: direction (streams, components), olds (LAG,
    streams, components) -> before each row, and after the last: (1 + LAG, streams, components)."""
    stacked = np.concatenate([direction[None], olds])
    flat: Vectors = DECAYS[rate] @ stacked.reshape(1 + LAG, -1)
    return flat.reshape(stacked.shape)

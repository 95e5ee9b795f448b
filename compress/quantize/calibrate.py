"""The ranges of activations on real texts, for scales that are fixed before the model ships.

minmax      all that was seen
percentile  all but 0.01% of what was seen, half of that at either end
entropy     the cut at which 128 levels lose the least of the distribution (Kullback-Leibler
            divergence, as in Migacz, "8-bit inference with TensorRT", 2017)

Each text is run alone and in two passes, the second into histograms over the range that the first
found, so texts of any length are taken as they are and no activation is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from compress.source import Feed

BINS = 2048
LEVELS = 128
ENTROPY_STEP = 16  # bins between two cuts that are compared
PERCENTILE = 0.9999


@dataclass(frozen=True)
class Histogram:
    """How often the values of an activation fell into each of BINS equal bins of [low, high]."""

    low: float
    high: float
    counts: NDArray[np.int64]

    @property
    def edges(self) -> NDArray[np.float64]:
        """The ends of the bins, (BINS + 1,)."""
        return np.linspace(self.low, self.high, BINS + 1)


Range = tuple[float, float]


def minmax(histogram: Histogram) -> Range:
    """See the module."""
    return histogram.low, histogram.high


def percentile(histogram: Histogram) -> Range:
    """See the module."""
    share = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.counts.sum()])
    beyond = (1.0 - PERCENTILE) / 2.0
    # The last edge below which at most, and the first above which at most, so much lies.
    first = int(np.searchsorted(share, beyond, side="right")) - 1
    last = int(np.searchsorted(share, 1.0 - beyond, side="left"))
    return float(histogram.edges[first]), float(histogram.edges[last])


def entropy(histogram: Histogram) -> Range:
    """See the module. The cut is one of magnitudes."""
    magnitudes, largest = _magnitudes(histogram)
    cuts = range(LEVELS, BINS + 1, ENTROPY_STEP)
    best = min(cuts, key=lambda cut: _divergence(magnitudes, cut))
    limit = largest * best / BINS
    return max(histogram.low, -limit), min(histogram.high, limit)


Method = Callable[[Histogram], Range]
METHODS: dict[str, Method] = {"minmax": minmax, "percentile": percentile, "entropy": entropy}


def observe(
    model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Feed]
) -> dict[str, Histogram]:
    """The histogram of every activation in `names` over `feeds`."""
    session = _session(model, names)
    lows, highs = dict.fromkeys(names, np.inf), dict.fromkeys(names, -np.inf)
    for name, values in _activations(session, names, feeds):
        lows[name] = min(lows[name], float(values.min()))
        highs[name] = max(highs[name], float(values.max()))
    counts = {name: np.zeros(BINS, dtype=np.int64) for name in names}
    for name, values in _activations(session, names, feeds):
        counts[name] += np.histogram(values, BINS, (lows[name], _above(lows[name], highs[name])))[0]
    return {
        name: Histogram(lows[name], _above(lows[name], highs[name]), counts[name]) for name in names
    }


def _above(low: float, high: float) -> float:
    """A constant activation has a range as well."""
    return high if high > low else low + 1.0


def _session(model: onnx.ModelProto, names: Sequence[str]) -> ort.InferenceSession:
    """The model with activations among its outputs."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    given = {value.name for value in observed.graph.output}
    for name in names:
        if name not in given:
            observed.graph.output.append(
                helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1  # sums in one order: the same machine gives the same bytes
    options.log_severity_level = 3
    return ort.InferenceSession(
        observed.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def _activations(
    session: ort.InferenceSession, names: Sequence[str], feeds: Sequence[Feed]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for feed in feeds if names else ():  # no name would ask for every output
        yield from zip(names, session.run(list(names), dict(feed)), strict=True)


def _magnitudes(histogram: Histogram) -> tuple[NDArray[np.float64], float]:
    """The histogram of absolute values over [0, largest], and that largest."""
    edges = histogram.edges
    middles = np.abs((edges[:-1] + edges[1:]) / 2.0)
    largest = max(abs(histogram.low), abs(histogram.high))
    counts, _ = np.histogram(middles, BINS, (0.0, largest), weights=histogram.counts)
    return counts.astype(np.float64), largest


def _divergence(counts: NDArray[np.float64], cut: int) -> float:
    """Of the distribution, cut there, from itself in LEVELS levels."""
    kept = counts[:cut]
    clipped = kept.copy()
    clipped[-1] += counts[cut:].sum()
    # Every level's mass is spread evenly over those of its bins that hold anything.
    level = np.arange(cut) * LEVELS // cut
    filled = kept > 0.0
    mass = np.bincount(level, weights=kept, minlength=LEVELS)
    bins = np.bincount(level, weights=filled, minlength=LEVELS)
    spread = np.where(filled, (mass / np.maximum(bins, 1.0))[level], 0.0)
    if not spread.sum() or not clipped.sum():
        return np.inf
    p, q = clipped / clipped.sum(), spread / spread.sum()
    both = (p > 0.0) & (q > 0.0)
    lost = float(p[(p > 0.0) & ~both].sum())  # what q says cannot be
    return float((p[both] * np.log(p[both] / q[both])).sum() + lost * np.log(BINS))

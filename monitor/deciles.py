"""Numbers counted in the deciles of a reference: what psi.py compares."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS = 10


def decile_edges(values: Floats) -> Floats:
    """The inner edges, rising, of up to BINS bins with about as many of `values` (n,) each; a bin
    holds what is above its lower and at most its upper edge. A value that many rows share has a bin
    of its own. NaN is left out; without values there are no edges."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return np.empty(0)
    levels = np.arange(1, BINS) / BINS
    quantiles = np.quantile(known, levels, method="inverted_cdf")
    shared = quantiles[1:][quantiles[1:] == quantiles[:-1]]
    with np.errstate(over="ignore"):  # below the lowest number of all lies no other
        beside = np.nextafter(shared, -np.inf)
    edges: Floats = np.unique(np.concatenate([quantiles, beside]))
    return edges


def count_bins(values: Floats, edges: Floats) -> Counts:
    """How many of `values` (n,) lie in each bin, (len(edges) + 1,); NaN is left out."""
    known = values[~np.isnan(values)]
    return np.bincount(np.searchsorted(edges, known, "left"), minlength=len(edges) + 1)

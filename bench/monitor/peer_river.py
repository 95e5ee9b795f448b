"""ADWIN and Page-Hinkley of river on the confidence, row by row; PSI and Kolmogorov-Smirnov on the
confidence in windows that do not overlap. Run by bench.monitor.peers in river's environment."""

import numpy as np
from peer_streams import Streams
from river.drift import ADWIN, PageHinkley
from scipy.stats import ks_2samp

# The first is the library's default, or the usual threshold.
ADWIN_DELTAS = (0.002, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8, 0.95)
PAGE_HINKLEY_THRESHOLDS = (50.0, 30.0, 20.0, 15.0, 12.0, 9.0, 7.0, 6.0, 5.0, 3.0)
PSI_FIXED = (0.1, 0.25)
PSI_THRESHOLDS = (*PSI_FIXED, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.15, 0.2, 0.3, 0.4, 0.5)
KS_P = (0.05, 0.03, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 1e-5, 1e-6, 1e-8)
WINDOWS = (100, 500)
BINS = 10


def row_by_row(streams, name, make, settings):
    for word, value in settings:

        def watch(ids, value=value):
            detector = make(value)
            for at, confidence in enumerate(streams.confidence[ids].tolist()):
                detector.update(confidence)
                if detector.drift_detected:
                    return at
            return len(ids)

        streams.sequential(name, word, value == settings[0][1], watch)


def psi(streams):
    reference = streams.confidence[streams.reference]
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)

    def shares(values):
        counts = np.bincount(np.searchsorted(edges, values), minlength=BINS) + 0.5
        return counts / counts.sum()

    known = shares(reference)

    def score(ids):
        seen = shares(streams.confidence[ids])
        return np.sum((seen - known) * np.log(seen / known))

    return score


def kolmogorov_smirnov(streams):
    reference = streams.confidence[streams.reference]
    return lambda ids: -np.log(max(ks_2samp(reference, streams.confidence[ids]).pvalue, 1e-300))


def main():
    streams = Streams()
    deltas = [(f"delta {delta:g}", delta) for delta in ADWIN_DELTAS]
    row_by_row(streams, "river ADWIN", lambda delta: ADWIN(delta=delta), deltas)
    thresholds = [(f"threshold {value:g}", value) for value in PAGE_HINKLEY_THRESHOLDS]
    row_by_row(
        streams, "river Page-Hinkley", lambda value: PageHinkley(threshold=value), thresholds
    )
    for rows in WINDOWS:
        fixed = [(f"above {value:g}", value in PSI_FIXED, value) for value in PSI_THRESHOLDS]
        streams.windows(f"PSI, {rows} rows", rows, psi(streams), fixed)
        levels = [(f"p < {p:g}", p == KS_P[0], -np.log(p)) for p in KS_P]
        streams.windows(f"KS, {rows} rows", rows, kolmogorov_smirnov(streams), levels)
    streams.report()


main()

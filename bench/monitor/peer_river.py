"""ADWIN and Page-Hinkley of river on the confidence, row by row; PSI and Kolmogorov-Smirnov on the
confidence in windows that do not overlap. Run by bench.monitor.peers in river's environment."""

import numpy as np
from peer_streams import Streams, path, report, timed
from river.drift import ADWIN, PageHinkley
from scipy.stats import ks_2samp

# The first is the library's default, or the usual fixed threshold.
ADWIN_DELTAS = (0.002, 0.01, 0.05, 0.1, 0.2, 0.5, 0.8)
PAGE_HINKLEY_THRESHOLDS = (50.0, 30.0, 20.0, 15.0, 12.0, 9.0, 7.0, 5.0, 3.0)
PSI_THRESHOLDS = (0.1, 0.25, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.12, 0.15, 0.2, 0.3, 0.4, 0.5)
PSI_FIXED = (0.1, 0.25)
KS_LOG_P = (0.05, 0.02, 0.01, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 1e-5, 1e-6, 1e-8)
WINDOWS = (100, 500)
BINS = 10


def sequential(streams, make):
    def watch(ids):
        detector = make()
        for at, value in enumerate(streams.confidence[ids].tolist()):
            detector.update(value)
            if detector.drift_detected:
                return at
        return len(ids)

    return streams.first_alarms(watch)


def psi_score(streams):
    reference = streams.confidence[streams.reference]
    edges = np.quantile(reference, np.arange(1, BINS) / BINS)
    known = np.bincount(np.searchsorted(edges, reference), minlength=BINS) + 0.5
    known = known / known.sum()

    def score(ids):
        seen = np.bincount(np.searchsorted(edges, streams.confidence[ids]), minlength=BINS) + 0.5
        seen = seen / seen.sum()
        return np.sum((seen - known) * np.log(seen / known))

    return score


def ks_score(streams):
    reference = streams.confidence[streams.reference]
    return lambda ids: -np.log(max(ks_2samp(reference, streams.confidence[ids]).pvalue, 1e-300))


def windowed(streams, results, seconds):
    for rows in WINDOWS:
        scores, seconds[f"PSI, {rows} rows"] = timed(
            streams.first_windows, psi_score(streams), rows
        )
        for threshold in PSI_THRESHOLDS:
            first = streams.crossings(scores, rows, threshold)
            usual = threshold in PSI_FIXED
            results.append((f"PSI, {rows} rows", f"above {threshold:g}", usual, first))
        scores, seconds[f"KS, {rows} rows"] = timed(streams.first_windows, ks_score(streams), rows)
        for p in KS_LOG_P:
            first = streams.crossings(scores, rows, -np.log(p))
            results.append((f"KS, {rows} rows", f"p < {p:g}", p == KS_LOG_P[0], first))


def main():
    streams = Streams(path())
    results, seconds = [], {}
    for delta in ADWIN_DELTAS:
        first, seconds["river ADWIN"] = timed(sequential, streams, lambda d=delta: ADWIN(delta=d))
        usual = delta == ADWIN_DELTAS[0]
        results.append(("river ADWIN", f"delta {delta:g}", usual, first))
        if usual:
            watched = sum(min(at + 1, 10**9) for own in first.values() for at in own)
    for threshold in PAGE_HINKLEY_THRESHOLDS:
        first, seconds["river Page-Hinkley"] = timed(
            sequential, streams, lambda t=threshold: PageHinkley(threshold=t)
        )
        usual = threshold == PAGE_HINKLEY_THRESHOLDS[0]
        results.append(("river Page-Hinkley", f"threshold {threshold:g}", usual, first))
    windowed(streams, results, seconds)
    del watched
    report(results, {}, {})


main()

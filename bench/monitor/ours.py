"""The monitor's detector over streams of row numbers.

`alarms` and `by_rows` are what a server does, row by row. `highest` gives the same numbers for many
streams at a time: the run lengths' millions of rows would take hours otherwise.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.monitor.streams import Ids, Source
from monitor.detector import Detector
from monitor.eprocess import MEMBERS, PARTS, payoffs, run_streams, tail_levels
from monitor.geometry import normalise, novelty

Evidence = NDArray[np.float32]


def fit(source: Source, reference: Ids, target_run_length: int, seed: int) -> Detector:
    """A detector on these rows of the source, in this order."""
    return Detector.fit(
        source.embeddings[reference], source.probabilities[reference], target_run_length, seed
    )


def highest(detector: Detector, source: Source, ids: Ids) -> Evidence:
    """Highest log evidence so far of streams that start afresh, (time, streams); no alarm stops
    them."""
    fitted = detector.fitted
    rows, places = np.unique(ids, return_inverse=True)
    scores = np.stack(
        [
            novelty(normalise(source.embeddings[rows]), fitted.centroids),
            -source.probabilities[rows].max(axis=1),
        ],
        axis=1,
    )
    levels = tail_levels(scores, fitted.tails.thresholds)[places.reshape(ids.shape)]
    streams = ids.shape[1]
    tables = np.repeat(payoffs(fitted.tails.rates)[None], streams, axis=0)
    evidence = np.zeros((streams, len(PARTS), MEMBERS))
    found = run_streams(tables, levels, evidence).astype(np.float32)
    return np.maximum.accumulate(found, axis=0)


def by_rows(detector: Detector, source: Source, ids: Ids) -> Evidence:
    """The same by update(), as a server does it."""
    found = np.empty(ids.shape, dtype=np.float32)
    for stream in range(ids.shape[1]):
        watching = Detector(detector.fitted)
        for time, row in enumerate(ids[:, stream].tolist()):
            watching.update(source.embeddings[row], source.probabilities[row])
            found[time, stream] = watching.log_evidence
    return np.maximum.accumulate(found, axis=0)


def alarms(detector: Detector, source: Source, stream: Ids) -> int:
    """Alarms on one stream (time,), the detector reset after each as a person would."""
    watching, count = Detector(detector.fitted), 0
    for row in stream.tolist():
        if watching.update(source.embeddings[row], source.probabilities[row]) is not None:
            count += 1
            watching.reset()
    return count


def model_bytes(fitted: object) -> int:
    """All arrays of what was fitted, however deep they lie."""
    if isinstance(fitted, np.ndarray):
        return fitted.nbytes
    if isinstance(fitted, dict | list | tuple):
        values: Any = fitted.values() if isinstance(fitted, dict) else fitted
        return sum(map(model_bytes, values))
    if dataclasses.is_dataclass(fitted):
        fields = dataclasses.fields(fitted)
        return sum(model_bytes(getattr(fitted, field.name)) for field in fields)
    return 0

"""The monitor's detector over streams of row numbers.

`alarms` and `by_rows` are what a server does, row by row. `highest` gives the same numbers for many
streams at a time: the run lengths' millions of rows would take hours otherwise.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.monitor.streams import Ids, Source
from monitor import class_mix, witness
from monitor.detector import Detector
from monitor.eprocess import member_powers
from monitor.fit import Fitted
from monitor.geometry import normalise, novelty
from monitor.simulate import Known, Rows, Streams, highest_evidence
from monitor.tails import Tails
from monitor.witness import LAG

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
    numbers, places = np.unique(ids, return_inverse=True)
    time, paths = ids.shape
    # The simulation takes whole blocks.
    drawn = np.pad(places.reshape(ids.shape), ((0, -time % LAG), (0, 0)))
    rows = _as_seen(fitted, source, numbers)
    streams = Streams(rows, _known(fitted, rows), np.zeros(paths, dtype=np.intp))
    blocks = (streams.block(drawn[at : at + LAG]) for at in range(0, len(drawn), LAG))
    powers = member_powers(rows.parts, fitted.design_effects)
    return highest_evidence(blocks, rows.parts, powers).T[:time]


def _as_seen(fitted: Fitted, source: Source, numbers: Ids) -> Rows:
    """Rows of the source as the detector sees them."""
    unit = normalise(source.embeddings[numbers])
    probabilities = source.probabilities[numbers]
    scores = np.stack([novelty(unit, fitted.centroids), -probabilities.max(axis=1)])
    return Rows(
        parts=fitted.parts,
        whitened=witness.whiten(unit, fitted.whitening),
        scores=scores[: len(fitted.tails.thresholds)],
        kinds=fitted.kind_of_class[probabilities.argmax(axis=1)],
        kind_count=len(fitted.kind_counts),
    )


def _known(fitted: Fitted, rows: Rows) -> Known:
    """The one reference that all streams have in common."""
    effects = dict(zip(fitted.parts, fitted.design_effects, strict=True))
    components = rows.whitened.shape[1]
    return Known(
        means=np.zeros((1, components), dtype=np.float32),
        tails=tuple(
            Tails(thresholds[None], rates[None])
            for thresholds, rates in zip(fitted.tails.thresholds, fitted.tails.rates, strict=True)
        ),
        ratios=class_mix.ratios(fitted.kind_counts)[None],
        margin=witness.margins(components, fitted.rows / effects["witness"]),
        discount=class_mix.discounts(rows.kind_count, fitted.rows / effects.get("class_mix", 1.0)),
    )


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

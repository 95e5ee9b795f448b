"""Fits what the live detector measures against, and says whether it may arm.

Reads reference rows that the model was not trained on, in order of arrival, scored by the very
artefact that serves. Below LEAST_ROWS independent rows nothing is promised: the evidence is
computed, and alarms are raised only as advice, where that was asked for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor import class_mix, neighbours, tails, witness
from monitor.arming import LEAST_ROWS, Arming, arm
from monitor.calibrate import Thresholds
from monitor.eprocess import parts_of
from monitor.geometry import (
    Vectors,
    centroid_count,
    cross_fitted_novelty,
    normalise,
    spherical_kmeans,
)
from monitor.simulate import Rows
from monitor.visible import smallest_visible_share

FEWEST_ROWS = 2
ONE_CLASS = "; direction and novelty alone are watched, the model has no classes"


@dataclass(frozen=True)
class Fitted:
    """All that the live detector needs.

    centroids (count, hidden); tails (tail parts, shares); kind_of_class (classes,) and kind_counts
    (kinds,) are how often the model predicted what on the reference; design_effects in the order of
    the parts. `dependence` is "none" or "blocks-b", `burst_rows` the mean number of rows that hang
    together. `shorter_thresholds`: for intervals on trial, as simulated; none where nothing was.
    """

    centroids: Vectors
    whitening: witness.Whitening
    tails: tails.Tails
    kind_of_class: NDArray[np.intp]
    kind_counts: NDArray[np.int64]
    threshold: float
    target_run_length: int
    verified_run_length: float
    rows: int
    armed: bool
    advisory: bool
    dependence: str
    burst_rows: float
    design_effects: tuple[float, ...]
    neighbour_excess: float
    smallest_visible_share: float
    reason: str
    shorter_thresholds: Thresholds = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that watch this model."""
        return parts_of(len(self.kind_of_class))


def fit_reference(
    embeddings: Vectors,
    probabilities: NDArray[np.float64],
    target_run_length: int,
    seed: int = 0,
    advisory: bool = False,
) -> Fitted:
    """Fit on embeddings (n, hidden) and probabilities (n, classes), rows in order of arrival. With
    one class (text-embedding) confidence and class mix say nothing and are not watched. `advisory`:
    alarms are raised even where nothing can be promised, and say so.

    Raises MonitorError where there are fewer than two rows, the shapes do not match or a value
    is not finite.
    """
    _check(embeddings, probabilities)
    unit = normalise(embeddings)
    count = centroid_count(len(unit))
    centroids = spherical_kmeans(unit, count, np.random.default_rng([seed, 0]))
    whitening = witness.fit_whitening(unit)
    classes = np.bincount(probabilities.argmax(axis=1), minlength=probabilities.shape[1])
    kind_of_class = class_mix.kinds_of_classes(classes)
    kinds = kind_of_class[probabilities.argmax(axis=1)]
    parts = parts_of(len(classes))
    scores = np.stack([cross_fitted_novelty(unit, count, seed), -probabilities.max(axis=1)])
    rows = Rows(
        parts=parts,
        whitened=witness.whiten(unit, whitening),
        scores=scores[: len(parts) // 2],
        kinds=kinds,
        kind_count=int(kind_of_class.max()) + 1,
    )
    neighbourhoods = (unit @ centroids.T).argmax(axis=1)
    found = arm(rows, neighbourhoods, target_run_length, seed, advisory)
    return Fitted(
        centroids=centroids,
        whitening=whitening,
        tails=_tails(rows, found),
        kind_of_class=kind_of_class,
        kind_counts=np.bincount(kinds, minlength=rows.kind_count),
        threshold=found.threshold,
        target_run_length=target_run_length,
        verified_run_length=found.verified_run_length,
        rows=len(rows),
        armed=found.armed,
        advisory=advisory and not found.armed,
        dependence=found.dependence.name,
        burst_rows=found.burst_rows,
        design_effects=found.dependence.design_effects,
        neighbour_excess=neighbours.reference_excess(
            neighbourhoods if len(classes) == 1 else kinds
        ),
        smallest_visible_share=smallest_visible_share(len(rows) / found.burst_rows),
        reason=found.reason + (ONE_CLASS if len(classes) == 1 else ""),
        shorter_thresholds=found.shorter_thresholds,
    )


def _tails(rows: Rows, found: Arming) -> tails.Tails:
    effects = dict(zip(rows.parts, found.dependence.design_effects, strict=True))
    names = rows.parts[1 : 1 + len(rows.scores)]
    return tails.fit_tails(rows.scores, np.array([[effects[name]] for name in names]))


def _check(embeddings: Vectors, probabilities: NDArray[np.float64]) -> None:
    if embeddings.ndim != 2 or probabilities.ndim != 2 or len(embeddings) != len(probabilities):
        raise MonitorError(
            f"embeddings {embeddings.shape} and probabilities {probabilities.shape} are not one "
            "row of each per text"
        )
    if len(embeddings) < FEWEST_ROWS:
        raise MonitorError(
            f"the drift reference has {len(embeddings)} rows; name at least {LEAST_ROWS} rows "
            "that are not trained on under data.files.reference or data.split.reference"
        )
    broken = ~(np.isfinite(embeddings).all(axis=1) & np.isfinite(probabilities).all(axis=1))
    if broken.any():
        raise MonitorError(
            f"the model's answer to reference row {int(broken.argmax())} (and {int(broken.sum())} "
            "in all) is not finite; it cannot be served, choose another candidate"
        )

"""Fits what the live detector measures against, and says whether it may arm.

Reads reference rows that the model was not trained on, in order of arrival, scored by the very
artefact that serves. Below LEAST_ROWS, and where neighbouring rows depend on one another, the
evidence is computed but nothing is promised and no alarm is raised.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor.calibrate import Calibration, calibrate, neighbours_agree_p
from monitor.eprocess import Tails, fit_tails
from monitor.geometry import (
    Vectors,
    centroid_count,
    cross_fitted_novelty,
    normalise,
    spherical_kmeans,
)

LEAST_ROWS = 500
DEPENDENCE_LEVEL = 0.01
# The smallest visible share is stated for a topic of which so many rows pass the 5 % tail of the
# confidence; new topics were measured at 0.5 to 0.8.
NEW_TOPIC_TAIL_RATIO = 0.6
VISIBILITY_TAIL = 0.05
NOVELTY_ONLY = "; novelty alone is watched, the model has no classes"


@dataclass(frozen=True)
class Fitted:
    """All that the live detector needs. centroids (count, hidden); tails (parts, shares)."""

    centroids: Vectors
    tails: Tails
    threshold: float
    target_run_length: int
    verified_run_length: float
    rows: int
    armed: bool
    smallest_visible_share: float
    reason: str


def fit_reference(
    embeddings: Vectors,
    probabilities: NDArray[np.float64],
    target_run_length: int,
    seed: int = 0,
) -> Fitted:
    """Fit on embeddings (n, hidden) and probabilities (n, classes), rows in order of arrival. With
    one class (text-embedding) the confidence says nothing and novelty alone is watched.

    Raises MonitorError where there are fewer than two rows, the shapes do not match or a value
    is not finite.
    """
    _check(embeddings, probabilities)
    rows = len(embeddings)
    unit = normalise(embeddings)
    count = centroid_count(rows)
    centroids = spherical_kmeans(unit, count, np.random.default_rng([seed, 0]))
    scores = np.stack([cross_fitted_novelty(unit, count, seed), -probabilities.max(axis=1)])
    one_class = probabilities.shape[1] == 1
    kinds = (unit @ centroids.T if one_class else probabilities).argmax(axis=1)
    refusal = _refusal(kinds, "neighbourhood" if one_class else "class", seed)
    calibration = None if refusal else calibrate(scores, target_run_length, seed)
    armed = calibration is not None and calibration.run_length >= target_run_length
    return Fitted(
        centroids=centroids,
        tails=fit_tails(scores),
        threshold=calibration.threshold if calibration else math.log(target_run_length),
        target_run_length=target_run_length,
        verified_run_length=calibration.run_length if calibration else 0.0,
        rows=rows,
        armed=armed,
        smallest_visible_share=smallest_visible_share(rows),
        reason=(refusal if calibration is None else _say(calibration, target_run_length))
        + (NOVELTY_ONLY if one_class else ""),
    )


def smallest_visible_share(rows: int) -> float:
    """The share of traffic below which a new topic stays unseen by the 5 % confidence tail."""
    margin = 2.0 * math.sqrt(VISIBILITY_TAIL * (1.0 - VISIBILITY_TAIL) / rows)
    return min(1.0, margin / (NEW_TOPIC_TAIL_RATIO - VISIBILITY_TAIL))


def _check(embeddings: Vectors, probabilities: NDArray[np.float64]) -> None:
    if embeddings.ndim != 2 or probabilities.ndim != 2 or len(embeddings) != len(probabilities):
        raise MonitorError(
            f"embeddings {embeddings.shape} and probabilities {probabilities.shape} are not one "
            "row of each per text"
        )
    if len(embeddings) < 2:
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


def _refusal(kinds: NDArray[np.intp], name: str, seed: int) -> str:
    """Why this reference may not arm; empty where it may. `kinds` (n,) sorts the rows."""
    rows = len(kinds)
    if rows < LEAST_ROWS:
        return (
            f"not armed: the reference has {rows} rows, a run length can be promised from "
            f"{LEAST_ROWS} on; add {LEAST_ROWS - rows} rows that are not trained on"
        )
    p = neighbours_agree_p(kinds, seed)
    if p > DEPENDENCE_LEVEL:
        return ""
    return (
        f"not armed: neighbouring reference rows share a {name} more often than chance "
        f"(p = {p:.3f}), so the rows are not independent; keep one row per client or burst, or "
        "every m-th row, in the reference and in the traffic"
    )


def _say(calibration: Calibration, target: int) -> str:
    """What was verified, in words."""
    seen = (
        f"{calibration.alarms} alarms in {calibration.simulated_rows} simulated rows without drift"
    )
    if calibration.run_length < target:
        return (
            f"not armed: one alarm per {calibration.run_length:.0f} rows was simulated where "
            f"{target} are promised ({seen}); add reference rows"
        )
    how = "extrapolated from shorter ones" if calibration.extrapolated else "simulated"
    return f"armed: threshold {how} for {target} rows between false alarms, then checked: {seen}"

"""What the secondary detectors measure against: fitted beside the primary, in reference.npz.

One promise for all detectors together: of the false alarms that it allows the primary may raise
PRIMARY_SHARE, the secondary ones together the rest. Rates of alarms add up, whatever the detectors
share, so that the primary is fitted for L / PRIMARY_SHARE rows between false alarms and the family
for L / (1 - PRIMARY_SHARE). The primary sees most shifts first: its threshold is ln(1 / 0.8) = 0.2
nats higher than it would be alone, the family's ln 5 = 1.6.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.observer import Observation
from monitor.calibrate import Thresholds, check_thresholds
from monitor.family_threshold import calibrate_family
from monitor.features import FEATURES, Context, main_script, read_features
from monitor.fit import Fitted
from monitor.geometry import SMALLEST_NORM, Vectors, normalise
from monitor.secondary import Scale, fit_classes, fit_scale, levels_of

PRIMARY_SHARE = 0.8
NEAREST_ROWS = 3


class Cluster(msgspec.Struct, frozen=True, array_like=True):
    """A centroid of the primary: how many reference rows lie nearest to it, and the ids of those
    that are nearest of all."""

    rows: int
    row_ids: tuple[str, ...]


class Family(msgspec.Struct, frozen=True, array_like=True):
    """The secondary detectors' scales and threshold, and what an alarm is explained with.

    `promised`: rows between false alarms of all detectors, the primary's among them.
    `target_run_length` and `verified_run_length` are the family's own. `centre`: the reference's
    mean direction, float32. `ngrams`: in how many reference rows each hashed n-gram stands; `salt`:
    of their hashes. `clusters`: in the order of the primary's centroids. `shorter_thresholds`: for
    intervals on trial, as simulated.
    """

    scales: tuple[Scale, ...]
    threshold: float
    promised: int
    target_run_length: int
    verified_run_length: float
    armed: bool
    main_script: str
    centre: bytes
    salt: bytes
    ngrams: dict[int, int]
    clusters: tuple[Cluster, ...]
    shorter_thresholds: Thresholds = ()  # bundles of earlier versions have none

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are read of a row; without the class mix."""
        return tuple(scale.name for scale in self.scales if not scale.classes)

    def context(self) -> Context:
        """What features compare a row with."""
        return Context(self.main_script, np.frombuffer(self.centre, dtype="<f4"))


@dataclass(frozen=True)
class Explained:
    """What the reference keeps to explain an alarm with, beside its numbers."""

    salt: bytes
    ngrams: Mapping[int, int]
    clusters: tuple[Cluster, ...]


def primary_target(promised: int) -> int:
    """The run length that the primary detector is fitted for."""
    return math.ceil(promised / PRIMARY_SHARE)


def family_target(promised: int) -> int:
    """The run length that the secondary detectors are fitted for, together."""
    # The share is a rounded difference: without the tolerance 20,000 would want 100,001.
    return math.ceil(promised / (1.0 - PRIMARY_SHARE) - 1e-6)


def fit_family(
    rows: Sequence[Observation],
    task: str,
    fitted: Fitted,
    promised: int,
    explained: Explained,
    seed: int = 0,
) -> Family:
    """Fit on reference rows in order of arrival. Where the primary may not arm, the secondary
    detectors do not arm either; where its rows hang together, so do theirs."""
    context = Context(main_script(row.text for row in rows), _centre(rows))
    scales, levels = _scales(rows, FEATURES[task], context)
    target = family_target(promised)
    blocks = block_rows(fitted.dependence)
    found = calibrate_family(scales, levels, target, seed, blocks) if fitted.armed else None
    return Family(
        scales=scales,
        threshold=math.log(target) if found is None else found.threshold,
        promised=promised,
        target_run_length=target,
        verified_run_length=0.0 if found is None else found.run_length,
        armed=found is not None and found.run_length >= target,
        main_script=context.main_script,
        centre=context.centre.astype("<f4").tobytes(),
        salt=explained.salt,
        ngrams=dict(explained.ngrams),
        clusters=explained.clusters,
        shorter_thresholds=() if found is None else found.shorter,
    )


def block_rows(dependence: str) -> int:
    """How many neighbouring rows are drawn at a time, by Fitted.dependence (none, blocks-b)."""
    _, _, rows = dependence.partition("blocks-")
    return int(rows) if rows else 1


def _centre(rows: Sequence[Observation]) -> NDArray[np.float32]:
    mean = normalise(np.stack([row.embedding for row in rows])).mean(axis=0)
    centre: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), SMALLEST_NORM)
    return centre.astype(np.float32)


def _scales(
    rows: Sequence[Observation], names: Sequence[str], context: Context
) -> tuple[tuple[Scale, ...], NDArray[np.uint8]]:
    """The scales of the features and, where there are classes, of their mix; the reference's
    levels (rows, scales)."""
    values = np.array([read_features(row, names, context) for row in rows])
    scales = [fit_scale(name, values[:, at]) for at, name in enumerate(names)]
    classes = len(rows[0].probabilities)
    if classes > 1:
        predicted = np.array([int(row.probabilities.argmax()) for row in rows])
        scales.append(fit_classes(predicted, classes))
        values = np.column_stack([values, predicted])
    return tuple(scales), levels_of(scales, values)


def describe_clusters(
    embeddings: Vectors, centroids: Vectors, ids: Sequence[str]
) -> tuple[Cluster, ...]:
    """Per centroid (count, hidden) how many embeddings (rows, hidden) are nearest to it, and the
    ids of the NEAREST_ROWS nearest ones."""
    cosines = centroids @ normalise(embeddings).T
    rows = np.bincount(cosines.argmax(axis=0), minlength=len(centroids)).tolist()
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :NEAREST_ROWS].tolist()
    return tuple(
        Cluster(count, tuple(ids[at] for at in own)) for count, own in zip(rows, order, strict=True)
    )


def promise_figures(fitted: Fitted, family: Family) -> dict[str, int | float | str]:
    """The fields of records.Reference that are about all detectors together: what is promised, and
    what the two simulations saw, their rates of alarms added up."""
    if not (fitted.armed and family.armed):
        return {"target_run_length": family.promised}
    rate = 1.0 / fitted.verified_run_length + 1.0 / family.verified_run_length
    return {
        "target_run_length": family.promised,
        "verified_run_length": 1.0 / rate,
        "reason": f"{fitted.reason}; with {len(family.scales)} secondary detectors one false alarm "
        f"in {family.promised} rows is promised",
    }


def encode_family(family: Family) -> NDArray[np.uint8]:
    """The family as an array for reference.npz."""
    return np.frombuffer(msgspec.msgpack.encode(family), dtype=np.uint8)


def decode_family(array: NDArray[np.uint8]) -> Family:
    """Raises ValueError where the array is not what encode_family makes."""
    try:
        family = msgspec.msgpack.decode(array.tobytes(), type=Family)
    except msgspec.MsgspecError as problem:
        raise ValueError(f"the secondary detectors do not read ({problem})") from None
    _check(family)
    return family


def _check(family: Family) -> None:
    """Raises ValueError where the parts do not fit together."""
    rows = {sum(scale.counts) for scale in family.scales}
    if len(rows) != 1 or not math.isfinite(family.threshold) or len(family.centre) % 4:
        raise ValueError(f"secondary detectors of {sorted(rows)} rows, {family.threshold}")
    check_thresholds(family.shorter_thresholds)
    for scale in family.scales:
        scale.check()

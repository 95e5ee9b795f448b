"""reference.npz: all that the live monitor needs, and no text.

A plain zip of .npy arrays that numpy.load(allow_pickle=False) reads as well; the same content
gives the same bytes. Written by stage.py, read by observer.py out of the bundle.
"""

import io
import json
import math
import zipfile
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor.accuracy.fit import AccuracyFit, from_document
from monitor.calibrate import check_thresholds
from monitor.family import Family, decode_family, encode_family, promise_figures
from monitor.fit import Fitted
from monitor.tails import SHARES, Tails
from monitor.witness import Whitening

FORMAT = "edgeloop-reference-2"
# Zip entries carry a time: a fixed one, the earliest that the format knows.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# The detector's arrays, with the type they are stored in. Thresholds stay in float64: scores are
# compared with them, and many equal one.
DETECTOR_ARRAYS = {
    "centroids": "<f4",
    "mean": "<f4",
    "projection": "<f4",
    "thresholds": "<f8",
    "rates": "<f8",
    "kind_of_class": "<i8",
    "kind_counts": "<i8",
}
ARRAYS = (*DETECTOR_ARRAYS, "class_counts", "word_counts", "words", "family")
# What the record says as well.
SETTINGS = tuple(
    field.name
    for field in fields(Fitted)
    if field.name
    not in (
        "centroids",
        "whitening",
        "tails",
        "kind_of_class",
        "kind_counts",
        "shorter_thresholds",
    )
)


@dataclass(frozen=True)
class ReferenceData:
    """The fitted detector, and what the explanation of an alarm compares with: how many reference
    rows the model put in each class, and in how many each word stands. `accuracy`: what it is
    estimated from; None of a model without answers."""

    fitted: Fitted
    labels: tuple[str, ...]
    class_counts: tuple[int, ...]
    words: dict[str, int]
    family: Family
    accuracy: AccuracyFit | None = None

    @property
    def verified_run_length(self) -> float:
        """Of all detectors together."""
        figures = promise_figures(self.fitted, self.family)
        return float(figures.get("verified_run_length", self.fitted.verified_run_length))


def save_reference(data: ReferenceData, path: Path) -> None:
    """Write reference.npz, in place. The caller makes that safe (rundir)."""
    path.write_bytes(encode_reference(data))


def encode_reference(data: ReferenceData) -> bytes:
    """The bytes of reference.npz."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in _arrays(data).items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", ZIP_EPOCH), buffer.getvalue())
    return stream.getvalue()


def _arrays(data: ReferenceData) -> dict[str, NDArray[Any]]:
    settings = {name: getattr(data.fitted, name) for name in SETTINGS}
    accuracy = None if data.accuracy is None else data.accuracy.to_document()
    document = {
        "format": FORMAT,
        "labels": data.labels,
        "settings": settings,
        "shorter_thresholds": data.fitted.shorter_thresholds,
        "accuracy": accuracy,
    }
    return {
        **_detector_arrays(data.fitted),
        "class_counts": np.array(data.class_counts, dtype="<u4"),
        "word_counts": np.array(list(data.words.values()), dtype="<u4"),
        "words": _text("\n".join(data.words)),
        "family": encode_family(data.family),
        "settings": _text(json.dumps(document, sort_keys=True, ensure_ascii=False)),
    }


def _detector_arrays(fitted: Fitted) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "centroids": fitted.centroids,
        "mean": fitted.whitening.mean,
        "projection": fitted.whitening.projection,
        "thresholds": fitted.tails.thresholds,
        "rates": fitted.tails.rates,
        "kind_of_class": fitted.kind_of_class,
        "kind_counts": fitted.kind_counts,
    }
    return {name: array.astype(DETECTOR_ARRAYS[name]) for name, array in arrays.items()}


def _text(value: str) -> NDArray[np.uint8]:
    return np.frombuffer(value.encode(), dtype=np.uint8)


def load_reference(path: Path) -> ReferenceData:
    """Read reference.npz. Raises MonitorError where it is missing, damaged or something else."""
    try:
        return _decode(_read_arrays(path))
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as problem:
        raise _not_a_reference(path, f"it cannot be read ({problem})") from None
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as problem:
        raise _not_a_reference(path, f"it holds something else ({problem})") from None


def _not_a_reference(path: Path, why: str) -> MonitorError:
    return MonitorError(
        f"{path}: not a drift reference, {why}; copy the bundle again or run the stage again"
    )


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        settings = _read_array(archive, "settings")
        found = json.loads(settings.tobytes())["format"]
        if found != FORMAT:
            raise ValueError(f"format {found!r}, this edgeloop reads {FORMAT!r}")
        return {"settings": settings, **{name: _read_array(archive, name) for name in ARRAYS}}


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    return np.lib.format.read_array(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


def _decode(arrays: dict[str, NDArray[Any]]) -> ReferenceData:
    document = json.loads(arrays["settings"].tobytes())
    settings = document["settings"]
    settings["design_effects"] = tuple(settings["design_effects"])
    fitted = Fitted(
        centroids=arrays["centroids"],
        whitening=Whitening(arrays["mean"], arrays["projection"]),
        tails=Tails(arrays["thresholds"], arrays["rates"]),
        kind_of_class=arrays["kind_of_class"],
        kind_counts=arrays["kind_counts"],
        shorter_thresholds=tuple(map(tuple, document.get("shorter_thresholds", ()))),
        **settings,
    )
    words = arrays["words"].tobytes().decode()
    # Bundles of earlier versions have none; nor have they thresholds of shorter intervals.
    accuracy = document.get("accuracy")
    data = ReferenceData(
        fitted=fitted,
        labels=tuple(document["labels"]),
        class_counts=tuple(arrays["class_counts"].tolist()),
        words=dict(
            zip(words.split("\n") if words else [], arrays["word_counts"].tolist(), strict=True)
        ),
        family=decode_family(arrays["family"]),
        accuracy=None if accuracy is None else from_document(accuracy),
    )
    _check(data)
    return data


def _check(data: ReferenceData) -> None:
    """Raises ValueError where the parts do not fit together."""
    _check_detector(data.fitted)
    if data.fitted.rows != sum(data.class_counts):
        raise ValueError(f"{data.fitted.rows} rows, {sum(data.class_counts)} counted by class")
    if not len(data.labels) == len(data.class_counts) == len(data.fitted.kind_of_class):
        raise ValueError(f"{len(data.labels)} labels, {len(data.class_counts)} class counts")


def _check_detector(fitted: Fitted) -> None:
    """Raises ValueError where its arrays are not such that a row can be compared with them."""
    arrays, hidden = _detector_arrays(fitted), fitted.whitening.mean.shape
    for name in ("centroids", "projection"):
        if arrays[name].ndim != 2 or arrays[name].shape[1:] != hidden or not len(arrays[name]):
            raise ValueError(f"{name} are {arrays[name].shape}, the mean is {hidden}")
    tail_parts = len(fitted.parts) // 2
    if any(arrays[name].shape != (tail_parts, len(SHARES)) for name in ("thresholds", "rates")):
        raise ValueError(f"tails have another shape than {(tail_parts, len(SHARES))}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("numbers are not finite")
    if (fitted.tails.rates <= 0.0).any() or min(fitted.design_effects) < 1.0:
        raise ValueError("rates are not positive, or design effects below 1")
    kinds = fitted.kind_of_class
    if kinds.ndim != 1 or not 0 <= kinds.min() <= kinds.max() < len(fitted.kind_counts):
        raise ValueError("classes are of kinds that are not counted")
    if len(fitted.design_effects) != len(fitted.parts) or not math.isfinite(fitted.threshold):
        raise ValueError(f"threshold {fitted.threshold}, {len(fitted.design_effects)} effects")
    check_thresholds(fitted.shorter_thresholds)


def reference_figures(fitted: Fitted) -> dict[str, Any]:
    """The fields of records.Reference that come from the fit."""
    return {name: getattr(fitted, name) for name in SETTINGS}

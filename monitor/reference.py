"""reference.npz: all that the live monitor needs, and no text.

A plain zip of .npy arrays that numpy.load(allow_pickle=False) reads as well; the same content
gives the same bytes. Written by stage.py, read by observer.py out of the bundle.
"""

import io
import json
import math
import zipfile
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import MonitorError
from monitor.eprocess import PARTS, TAIL_SHARES, Tails
from monitor.family import Family, decode_family, encode_family, promise_figures
from monitor.fit import Fitted

FORMAT = "edgeloop-reference-1"
# Zip entries carry a time: a fixed one, the earliest that the format knows.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
ARRAYS = (
    "centroids",
    "thresholds",
    "rates",
    "class_counts",
    "word_counts",
    "words",
    "family",
    "settings",
)
SETTINGS = tuple(field.name for field in fields(Fitted) if field.name not in ("centroids", "tails"))


@dataclass(frozen=True)
class ReferenceData:
    """The fitted detector, and what the explanation of an alarm compares with: how many reference
    rows the model put in each class, and in how many each word stands."""

    fitted: Fitted
    labels: tuple[str, ...]
    class_counts: tuple[int, ...]
    words: dict[str, int]
    family: Family

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
    document = {"format": FORMAT, "labels": data.labels, "settings": settings}
    return {
        "centroids": data.fitted.centroids.astype("<f4"),
        # Thresholds stay in float64: scores are compared with them, and many equal one.
        "thresholds": data.fitted.tails.thresholds.astype("<f8"),
        "rates": data.fitted.tails.rates.astype("<f8"),
        "class_counts": np.array(data.class_counts, dtype="<u4"),
        "word_counts": np.array(list(data.words.values()), dtype="<u4"),
        "words": _text("\n".join(data.words)),
        "family": encode_family(data.family),
        "settings": _text(json.dumps(document, sort_keys=True, ensure_ascii=False)),
    }


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
        return {
            name: np.lib.format.read_array(
                io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False
            )
            for name in ARRAYS
        }


def _decode(arrays: dict[str, NDArray[Any]]) -> ReferenceData:
    document = json.loads(arrays["settings"].tobytes())
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r}, this edgeloop reads {FORMAT}")
    tails = Tails(arrays["thresholds"], arrays["rates"])
    fitted = Fitted(centroids=arrays["centroids"], tails=tails, **document["settings"])
    words = arrays["words"].tobytes().decode()
    data = ReferenceData(
        fitted=fitted,
        labels=tuple(document["labels"]),
        class_counts=tuple(arrays["class_counts"].tolist()),
        words=dict(
            zip(words.split("\n") if words else [], arrays["word_counts"].tolist(), strict=True)
        ),
        family=decode_family(arrays["family"]),
    )
    _check(data)
    return data


def _check(data: ReferenceData) -> None:
    """Raises ValueError where the parts do not fit together."""
    fitted, shape = data.fitted, (len(PARTS), len(TAIL_SHARES))
    numbers = (fitted.centroids, fitted.tails.thresholds, fitted.tails.rates)
    if fitted.centroids.ndim != 2 or fitted.centroids.dtype != np.float32:
        raise ValueError(f"centroids are {fitted.centroids.dtype} {fitted.centroids.shape}")
    if any(tail.shape != shape for tail in (fitted.tails.thresholds, fitted.tails.rates)):
        raise ValueError(f"tails have another shape than {shape}")
    if not all(np.isfinite(array).all() for array in numbers) or (fitted.tails.rates <= 0).any():
        raise ValueError("numbers are not finite or rates not positive")
    if not math.isfinite(fitted.threshold) or fitted.rows != sum(data.class_counts):
        raise ValueError(f"threshold {fitted.threshold}, rows {fitted.rows} do not fit")
    if len(data.labels) != len(data.class_counts):
        raise ValueError(f"{len(data.labels)} labels, {len(data.class_counts)} class counts")


def reference_figures(fitted: Fitted) -> dict[str, Any]:
    """The fields of records.Reference that come from the fit."""
    figures = asdict(fitted)
    return {name: figures[name] for name in SETTINGS}

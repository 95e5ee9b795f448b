"""Stored rows as the drift detector reads them: embeddings and class probabilities, a chunk at a
time, either made from texts by a bundle's model or read from an .npz file that keeps them:

    embeddings     (n, hidden) float32     what the model's pooled last hidden state was
    probabilities  (n, classes) float      in the order of the bundle's labels
    texts, ids, labels (n,) text   tokens (n,) integers   timestamps (n,) Unix seconds or datetime64
    right          (n,) float              1 where the answer was right, 0 where not, NaN unknown
    features       (n, features) float64   what the bundle's secondary detectors watch
    feature_names  (features,) text        in the bundle's order
                                           all of these may be absent
    bundle         () text                 the digest of the bundle that answered, may be absent
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from edgeloop.errors import DatasetError
from edgeloop.models import Model
from edgeloop.observer import observed
from edgeloop.rows import TextInput
from edgeloop.tasks import TASKS
from monitor.family import Family
from monitor.features import read_features
from monitor.geometry import Vectors
from monitor.npz import NpzRows

Floats = NDArray[np.float64]
Names = NDArray[Any]

TEXT_CHUNK_ROWS = 16
NPZ_CHUNK_ROWS = 2_048
TEXTS, IDS, LABELS, TOKENS, TIMES = "texts", "ids", "labels", "tokens", "timestamps"
RIGHT, BUNDLE = "right", "bundle"
VALUES, VALUE_NAMES = "features", "feature_names"
# float16 probabilities sum to 1 only roughly.
SUM_SLACK = 5e-3


@dataclass(frozen=True)
class Scored:
    """A chunk of rows. `times`: Unix seconds, NaN where unknown; `right`: 1 where the answer was, 0
    where not, NaN without a label; `requests`: the estimated number of requests up to each row.
    `features`: (rows, features) of Family.names, None where texts are not known."""

    embeddings: Vectors
    probabilities: Floats
    ids: Names
    times: Floats
    right: Floats
    requests: Floats
    tokens: Floats | None = None
    texts: Names | None = None
    features: Floats | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    def at(self, places: NDArray[np.integer] | slice) -> "Scored":
        """Some of the rows."""
        known = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        chosen: dict[str, Any] = {name: getattr(self, name)[places] for name in known}
        return Scored(**chosen)


@dataclass(frozen=True)
class StoredText:
    """A row of a file of texts. `label`: in one word, None where it is not known; `time`: Unix
    seconds or NaN; `requests`: how many requests there were up to this one, more than rows where
    only a sample was kept."""

    id: str
    asked: TextInput
    label: str | None
    time: float
    requests: float


def score_texts(
    rows: Sequence[StoredText], bundle: Bundle, model: Model, family: Family
) -> Iterator[Scored]:
    """The bundle's model over texts, one at a time as when served. `family`: the bundle's."""
    for start in range(0, len(rows), TEXT_CHUNK_ROWS):
        yield _score(rows[start : start + TEXT_CHUNK_ROWS], bundle, model, family)


def _score(rows: Sequence[StoredText], bundle: Bundle, model: Model, family: Family) -> Scored:
    task, labels = TASKS[bundle.manifest.task], bundle.manifest.labels
    answered = [model.answer(row.asked) for row in rows]
    both = zip(rows, answered, strict=True)
    seen = [observed(row.asked, own, task, labels) for row, own in both]
    context = family.context()
    features = np.array([read_features(own, family.names, context) for own in seen])
    right = np.full(len(rows), np.nan)
    for place, (row, own) in enumerate(zip(rows, seen, strict=True)):
        truth = None if row.label is None else task.read_label(row.label)
        if truth is not None:
            right[place] = set(truth) == set(own.answer.labels)
    return Scored(
        embeddings=np.stack([own.embedding for own in seen]),
        probabilities=np.stack([own.probabilities for own in seen]),
        ids=np.array([row.id for row in rows], dtype=object),
        times=np.array([row.time for row in rows]),
        right=right,
        requests=np.array([row.requests for row in rows]),
        tokens=np.array([own.tokens for own in seen], dtype=np.float64),
        texts=_objects([row.asked for row in rows]),
        features=features,
    )


def _objects(values: Sequence[Any]) -> Names:
    """A pair of texts stays one thing."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


class ScoreFile:
    """An .npz file of scores (see the module) that fits a bundle."""

    def __init__(self, path: Path, bundle: Bundle, family: Family) -> None:
        """`family`: the bundle's. Raises DatasetError where the file does not read, an array is
        missing or has another shape than the bundle's model gives, the scores say that they are
        another bundle's, or the features are not those that its detectors watch."""
        self.path = path
        self._file = NpzRows(path)
        manifest = bundle.manifest
        self._labels = np.array(manifest.labels, dtype=object)
        self._knows_right = manifest.task == "text-classification"
        embeddings = self._file.require("embeddings", 2, "f")
        probabilities = self._file.require("probabilities", 2, "f")
        self.rows = embeddings.shape[0]
        classes = len(TASKS[manifest.task].class_names(manifest.labels))
        if probabilities.shape[1] != classes:
            raise DatasetError(
                f"{path}: probabilities of {probabilities.shape[1]} classes, this bundle's model "
                f"gives {classes}; the scores must be those of the bundle's own model"
            )
        if self.rows == 0:
            raise DatasetError(f"{path}: the file has no rows")
        self._check_bundle(bundle)
        self._names = ["embeddings", "probabilities", *self._optional()]
        if VALUES in self._file.arrays:
            self._check_features(family)
            self._names.append(VALUES)

    def _check_bundle(self, bundle: Bundle) -> None:
        if BUNDLE not in self._file.arrays:
            return
        made = str(self._file.whole(BUNDLE))
        if made != bundle.digest:
            raise DatasetError(
                f"{self.path}: scores of the bundle {made[:12]}, this is {bundle.digest[:12]}; "
                "score the texts again with this bundle"
            )

    def _check_features(self, family: Family) -> None:
        stored = self._file.require(VALUES, 2, "f")
        self._file.require(VALUE_NAMES, 1, "U")
        names = tuple(self._file.whole(VALUE_NAMES).tolist())
        if names != family.names or stored.shape[1] != len(names):
            raise DatasetError(
                f"{self.path}: {stored.shape[1]} features with the names {', '.join(names)}, this "
                f"bundle's detectors watch {', '.join(family.names)}; score the texts again with "
                "this bundle, or leave the array 'features' out"
            )

    def _optional(self) -> list[str]:
        kinds = {TEXTS: "U", IDS: "U", LABELS: "U", TOKENS: "fiu", TIMES: "Mfiu", RIGHT: "f"}
        there = [name for name in kinds if name in self._file.arrays]
        for name in there:
            self._file.require(name, 1, kinds[name])
        return there

    def chunks(self) -> Iterator[Scored]:
        """The rows in order. Raises DatasetError where the arrays have not one row each per row,
        where probabilities are none, or where the file is cut off."""
        done = 0
        for arrays in self._file.chunks(self._names, NPZ_CHUNK_ROWS):
            probabilities = arrays["probabilities"].astype(np.float64)
            self._check_probabilities(probabilities, done)
            rows = len(probabilities)
            counted = np.arange(done + 1, done + rows + 1)
            done += rows
            yield Scored(
                embeddings=arrays["embeddings"].astype(np.float32, copy=False),
                probabilities=probabilities,
                ids=arrays[IDS] if IDS in arrays else counted.astype(str).astype(object),
                times=_seconds(arrays[TIMES]) if TIMES in arrays else np.full(rows, np.nan),
                right=self._right(probabilities, arrays),
                requests=counted.astype(np.float64),
                tokens=arrays[TOKENS].astype(np.float64) if TOKENS in arrays else None,
                texts=arrays[TEXTS].astype(object) if TEXTS in arrays else None,
                features=arrays[VALUES].astype(np.float64) if VALUES in arrays else None,
            )

    def _right(self, probabilities: Floats, arrays: dict[str, Names]) -> Floats:
        if RIGHT in arrays:
            return arrays[RIGHT].astype(np.float64)
        labels = arrays.get(LABELS)
        if labels is None or not self._knows_right:
            return np.full(len(probabilities), np.nan)
        answers = self._labels[np.nan_to_num(probabilities, nan=-1.0).argmax(axis=1)]
        return np.where(labels == "", np.nan, labels == answers)

    def _check_probabilities(self, probabilities: Floats, done: int) -> None:
        sums = probabilities.sum(axis=1)
        with np.errstate(invalid="ignore"):
            wrong = (np.abs(sums - 1.0) > SUM_SLACK) | (probabilities < -SUM_SLACK).any(axis=1)
        wrong &= np.isfinite(probabilities).all(axis=1)
        if wrong.any():
            row = int(wrong.argmax())
            raise DatasetError(
                f"{self.path}: row {done + row + 1} of probabilities sums to {sums[row]:.4g}, its "
                f"smallest is {probabilities[row].min():.4g}; store the softmax, not the logits"
            )


def _seconds(times: NDArray[Any]) -> Floats:
    if times.dtype.kind != "M":
        return times.astype(np.float64)
    seconds = times.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.where(np.isnat(times), np.nan, seconds)


class ScoreKeeper:
    """Keeps chunks, to be written as a score file."""

    def __init__(self, bundle: Bundle, family: Family) -> None:
        self._bundle = bundle.digest
        self._feature_names = family.names
        self._chunks: list[Scored] = []

    def watch(self, chunks: Iterator[Scored]) -> Iterator[Scored]:
        """The same chunks, kept in passing; texts are not."""
        for chunk in chunks:
            self._chunks.append(replace(chunk, texts=None))
            yield chunk

    def save(self, path: Path, write: Callable[[Path, bytes], None]) -> int:
        """Write what was kept by `write`; returns the rows."""
        kept = self._chunks
        arrays: dict[str, NDArray[Any]] = {
            "embeddings": np.concatenate([c.embeddings for c in kept]),
            "probabilities": np.concatenate([c.probabilities for c in kept]),
            IDS: np.concatenate([c.ids for c in kept]).astype(str),
            TOKENS: np.concatenate([c.tokens for c in kept if c.tokens is not None]),
            TIMES: np.concatenate([c.times for c in kept]),
            RIGHT: np.concatenate([c.right for c in kept]),
            BUNDLE: np.array(self._bundle),
            VALUES: np.concatenate([c.features for c in kept if c.features is not None]),
            VALUE_NAMES: np.array(self._feature_names),
        }
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **arrays)
        write(path, stream.getvalue())
        return len(arrays[IDS])

"""What the served model has as tensors of the Open Inference Protocol.

in   text        BYTES [N] or [N,1]         text_pair as well where the model takes pairs
out  probs       FP32 [N,C]                 classifiers: of several labels each one's own
     label       BYTES [N]                  classifiers: several labels as "a|b"
     score       FP32 [N]                   how sure the model is of the whole answer
     entities    BYTES [N]                  taggers: JSON, as POST /predict has it
     embedding   FP32 [N,H]                 models of vectors
     abstained   BOOL [N]                   bundles with a threshold
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.records import Manifest
from serve.dialects.oip_binary import write_numbers, write_strings
from serve.dialects.scores import CLASSIFIERS, best_first, class_scores
from serve.dialects.tei import entities
from serve.jobs import Scored

TEXT, TEXT_PAIR = "text", "text_pair"
PROBS = "probs"


class TensorAbout(msgspec.Struct):
    """A tensor in the model's metadata; -1 for a dimension that depends on the request."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True)
class Tensor:
    """An output: numbers of any shape, or one text for each element of `shape`."""

    name: str
    datatype: str
    shape: list[int]
    values: NDArray[Any] | list[str]

    def flat(self) -> list[Any]:
        """For JSON, row-major."""
        if isinstance(self.values, list):
            return self.values
        flat: list[Any] = self.values.ravel().tolist()
        return flat

    def binary(self) -> bytes:
        """For the binary extension."""
        if isinstance(self.values, list):
            return write_strings(self.values)
        return write_numbers(self.values, self.datatype)


def inputs_of(manifest: Manifest) -> list[TensorAbout]:
    """What the model takes."""
    names = [TEXT, TEXT_PAIR] if manifest.text_pair else [TEXT]
    return [TensorAbout(name, "BYTES", [-1]) for name in names]


def outputs_of(manifest: Manifest) -> list[TensorAbout]:
    """What the model gives, all of which a request gets that names none."""
    batch = [-1]
    if manifest.task == "text-embedding":
        return [TensorAbout("embedding", "FP32", [-1, -1])]
    if manifest.task in CLASSIFIERS:
        found = [
            TensorAbout(PROBS, "FP32", [-1, len(manifest.labels)]),
            TensorAbout("label", "BYTES", batch),
        ]
    else:
        found = [TensorAbout("entities", "BYTES", batch)]
    found.append(TensorAbout("score", "FP32", batch))
    if manifest.abstain_below is not None:
        found.append(TensorAbout("abstained", "BOOL", batch))
    return found


def make_tensor(about: TensorAbout, answers: Sequence[Scored], manifest: Manifest) -> Tensor:
    """The output of that name."""
    values = VALUES[about.name](answers, manifest)
    shape = [len(values)] if isinstance(values, list) else list(values.shape)
    return Tensor(about.name, about.datatype, shape, values)


def classification(answers: Sequence[Scored], manifest: Manifest, most: int) -> Tensor:
    """Triton's form of `probs`: BYTES [N, most] of "score:index:label", best first."""
    texts = []
    for row in _probs(answers, manifest):
        for i in best_first(row)[:most]:
            texts.append(f"{row[i]!s}:{i}:{manifest.labels[i]}")
    return Tensor(PROBS, "BYTES", [len(answers), len(texts) // len(answers)], texts)


def _probs(answers: Sequence[Scored], manifest: Manifest) -> NDArray[np.float32]:
    rows = [class_scores(answer, manifest.task, raw=False) for answer in answers]
    return np.stack(rows).astype(np.float32)


def _entities(answer: Scored) -> str:
    return msgspec.json.encode(entities(answer)).decode()


VALUES: dict[str, Callable[[Sequence[Scored], Manifest], NDArray[Any] | list[str]]] = {
    PROBS: _probs,
    "label": lambda answers, _: [answer.answer.label for answer in answers],
    "entities": lambda answers, _: [_entities(answer) for answer in answers],
    "score": lambda answers, _: np.array([a.answer.score for a in answers], np.float32),
    "abstained": lambda answers, _: np.array([a.abstained for a in answers], bool),
    "embedding": lambda answers, _: np.stack([a.output.embedding for a in answers]),
}

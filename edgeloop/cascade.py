"""Two models in one bundle, one answer to the client: a small first stage answers where it is sure
enough, the second stage the rest. Which one did is told with the answer.

cascade.json says how sure that is. Both stages' logits are divided by their temperatures (Guo et
al. 2017), so that the scores of an answer mean the same whichever stage gave it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from edgeloop.errors import EdgeloopError, EngineError
from edgeloop.records import Record
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, Model, RowOutput

Floats = NDArray[np.float32]

FIRST, SECOND = STAGES = ("first", "second")


class Prediction(Record):
    """What the rows that the threshold was chosen on promise of others: which share the first stage
    answers, the mean time of an answer, and the accuracy that is lost against the merged model."""

    rows: int
    hit_ratio: float
    first_ms: float
    second_ms: float
    cost_ms: float
    drop_ratio: float


class CascadeSettings(Record):
    """cascade.json. The first stage answers where its confidence is `threshold` or more."""

    schema_version: Literal[1] = 1
    task: Literal["text-classification", "multi-label-classification"]
    first: Literal["linear", "onnx"]
    first_temperature: float = Field(gt=0.0)
    second_temperature: float = Field(gt=0.0)
    threshold: float = Field(ge=0.0, le=1.0)
    predicted: Prediction

    @classmethod
    def open(cls, path: Path) -> "CascadeSettings":
        """Raises EngineError where the file is not such a record."""
        try:
            return cls.read(path)
        except EdgeloopError as problem:
            raise EngineError(str(problem)) from None


def _best_class(logits: Floats) -> float:
    """The highest probability of softmax."""
    return float(1.0 / np.exp(logits - logits.max()).sum())


def _whole_answer(logits: Floats) -> float:
    """The probability that every label is as it is more likely to be, by sigmoid."""
    return float(np.exp(-np.logaddexp(0.0, -np.abs(logits)).sum()))


# How sure a stage is, from calibrated logits (classes,): edgeloop.tasks' Answer.score.
CONFIDENCE: dict[str, Callable[[Floats], float]] = {
    "text-classification": _best_class,
    "multi-label-classification": _whole_answer,
}


# Makes the cascade's answer out of the second stage's.
Finish = Callable[[Answered], Answered]


class FirstStage:
    """The stage that is asked first, and what becomes of the second one's answers. Thread-safe
    where the model is."""

    def __init__(self, model: Model, settings: CascadeSettings) -> None:
        self._model = model
        self._confidence = CONFIDENCE[settings.task]
        self._threshold = settings.threshold
        self._first_temperature = np.float32(settings.first_temperature)
        self._second_temperature = np.float32(settings.second_temperature)

    def begin(self, text: TextInput, truncate: bool = True) -> Answered | Finish:
        """Its answer where it is sure; else what makes one of the second stage's.

        Raises TextTooLong where it would cut the text and `truncate` is false.
        """
        first = self._model.answer(text, truncate)
        logits = first.output.logits / self._first_temperature
        embedding = first.output.embedding
        if self._confidence(logits) >= self._threshold:
            return _told(first, logits, embedding, FIRST)
        return partial(self._finish, embedding)

    def _finish(self, embedding: Floats, second: Answered) -> Answered:
        logits = second.output.logits / self._second_temperature
        return _told(second, logits, embedding, SECOND)


class CascadeModel:
    """Thread-safe where its stages are."""

    def __init__(self, first: Model, second: Model, settings: CascadeSettings) -> None:
        self.first, self.second = first, second
        self.begin = FirstStage(first, settings).begin

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        """Tokens, unknown ones and truncation are those of the stage that answered; the embedding
        is always the first stage's, so that drift is measured on every row alike.

        Raises TextTooLong where that stage would cut the text and `truncate` is false.
        """
        begun = self.begin(text, truncate)
        return begun if isinstance(begun, Answered) else begun(self.second.answer(text, truncate))

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        """One text at a time."""
        return [self.answer(text).output for text in texts]


def _told(own: Answered, logits: Floats, embedding: Floats, stage: str) -> Answered:
    """A stage's answer with the cascade's numbers."""
    output = RowOutput(logits, embedding)
    return Answered(output, own.tokens, own.truncated, stage, own.unknown_tokens)

"""The wire shapes of POST /predict, as Hugging Face text-embeddings-inference has them, and of
POST /feedback; decoded and encoded by msgspec.

    {"inputs": "s"}              -> [{"score": 0.9, "label": "a"}, ...]      best first
    {"inputs": [["s"], ["t"]]}   -> [[{...}, ...], [{...}, ...]]
    {"inputs": ["s", "t"]}       is ONE PAIR of texts in TEI: our models take single texts, 422
Source: router/src/http/types.rs of text-embeddings-inference.
"""

from collections.abc import Sequence
from typing import Literal, TypeVar

import msgspec
import numpy as np

from serve.engine import Scored

MAX_BATCH_TEXTS = 32
ErrorType = Literal[
    "Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty", "Timeout"
]
PAIR = (
    "`inputs` is a pair of texts, which this model does not take (it classifies single texts); "
    'send one text as "text", several as [["first"], ["second"]]'
)
BATCH = 'a batch is a list of lists of one text each: [["first"], ["second"]]'


class Refused(Exception):
    """A request that gets an error answer; `reason` is its label in the metrics."""

    def __init__(
        self,
        status: int,
        error_type: ErrorType,
        message: str,
        reason: str = "invalid",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message
        self.reason = reason
        self.headers = tuple(headers)

    def body(self) -> bytes:
        """{"error", "error_type"} as JSON."""
        return msgspec.json.encode({"error": self.message, "error_type": self.error_type})


class PredictBody(msgspec.Struct):
    """The body of POST /predict; fields that TEI does not know are ignored, as TEI does."""

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None


class FeedbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /feedback: the right label of a text, under the caller's own id."""

    id: str
    text: str
    label: str


class Prediction(msgspec.Struct):
    """One class of one answer."""

    score: float
    label: str


class PredictRequest(msgspec.Struct, frozen=True):
    """A valid request: at least one text, none of them empty."""

    texts: tuple[str, ...]
    batched: bool
    truncate: bool
    raw_scores: bool


S = TypeVar("S", bound=msgspec.Struct)
_predict = msgspec.json.Decoder(PredictBody)
_feedback = msgspec.json.Decoder(FeedbackBody)


def parse_predict(body: bytes, max_batch_texts: int = MAX_BATCH_TEXTS) -> PredictRequest:
    """Read the body of POST /predict. Raises Refused (400, 422) for anything else."""
    document = _decode(_predict, body)
    if document.truncation_direction not in (None, "right", "Right"):
        raise _invalid(
            f"truncation_direction {document.truncation_direction!r} is not supported; texts are "
            "cut at their end (right)"
        )
    texts, batched = _texts(document.inputs)
    if len(texts) > max_batch_texts:
        raise _invalid(f"batch size {len(texts)} > maximum allowed batch size {max_batch_texts}")
    if not all(text.strip() for text in texts):
        raise Refused(400, "Empty", "`inputs` cannot be empty; send a text with a word in it")
    return PredictRequest(texts, batched, bool(document.truncate), bool(document.raw_scores))


def parse_feedback(body: bytes, labels: Sequence[str]) -> FeedbackBody:
    """Read the body of POST /feedback. Raises Refused (400, 422); an unknown label is refused
    with the known ones."""
    row = _decode(_feedback, body)
    for name, value in (("id", row.id), ("text", row.text)):
        if not value.strip():
            raise Refused(400, "Empty", f"`{name}` cannot be empty")
    if row.label not in labels:
        raise _invalid(f"label {row.label!r} is unknown; the labels are {', '.join(labels)}")
    return row


def encode_predictions(
    answers: Sequence[Scored], labels: Sequence[str], request: PredictRequest
) -> bytes:
    """The reply to a request: probabilities, or logits for raw_scores, best class first."""
    rows = [_predictions(answer, labels, request.raw_scores) for answer in answers]
    return msgspec.json.encode(rows if request.batched else rows[0])


def _predictions(answer: Scored, labels: Sequence[str], raw: bool) -> list[Prediction]:
    scores = answer.logits if raw else answer.probabilities
    order = np.argsort(-scores, kind="stable").tolist()
    values = scores.tolist()
    return [Prediction(values[i], labels[i]) for i in order]


def _decode(decoder: msgspec.json.Decoder[S], body: bytes) -> S:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as problem:
        raise _invalid(f"the JSON has another shape than it needs: {problem}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise Refused(400, "Validation", f"the body is not JSON in UTF-8: {problem}") from None
    except RecursionError:
        raise _invalid("the JSON is nested too deeply") from None


def _texts(inputs: str | list[str | list[str]]) -> tuple[tuple[str, ...], bool]:
    """The texts, and whether they came as a batch."""
    if isinstance(inputs, str):
        return (inputs,), False
    if not inputs:
        raise _invalid(f"`inputs` has no text; {BATCH}")
    if isinstance(inputs[0], str):
        return (_single(inputs),), False
    if any(isinstance(row, str) for row in inputs):
        raise _invalid(f"`inputs` mixes texts and lists; {BATCH}")
    return tuple(_single(row) for row in inputs), True


def _single(row: Sequence[str | list[str]]) -> str:
    """The text of ["text"]; two texts are a pair, more are no shape at all."""
    if len(row) == 2 and all(isinstance(text, str) for text in row):
        raise _invalid(PAIR)
    if len(row) != 1 or not isinstance(row[0], str):
        raise _invalid(f"`inputs` is neither a text nor a batch; {BATCH}")
    return row[0]


def _invalid(message: str) -> Refused:
    return Refused(422, "Validation", message)

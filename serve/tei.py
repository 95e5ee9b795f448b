"""The wire shapes of Hugging Face's text-embeddings-inference, decoded and encoded by msgspec.

    POST /predict  {"inputs": "s"}                -> [{"score": 0.9, "label": "a"}, ...]
                   {"inputs": [["s"], ["t"]]}     -> [[{...}, ...], [{...}, ...]], each best first
                   {"inputs": ["s", "t"]}         is ONE PAIR of texts, [["s", "t"], ...] a batch
    POST /embed    {"inputs": "s" or ["s", "t"]}  -> [[0.1, ...], ...]
Source: router/src/http/types.rs of text-embeddings-inference. A tagger answers /predict in the
shape of Hugging Face's token-classification: [{"entity_group", "score", "word", "start", "end"}].
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from edgeloop.records import Manifest
from edgeloop.rows import TextInput, first_text
from edgeloop.tasks import sigmoid
from serve.body import decode
from serve.jobs import Scored
from serve.refused import Refused, invalid

MAX_BATCH_TEXTS = 32
PAIR = (
    "`inputs` is a pair of texts, which this model does not take (it reads single texts); "
    'send one text as "text", several as [["first"], ["second"]]'
)
BATCH = (
    'a batch is a list of lists of one text each, [["first"], ["second"]], or of two where the '
    "model takes pairs"
)


class PredictBody(msgspec.Struct):
    """The body of POST /predict; fields that TEI does not know are ignored, as TEI does."""

    inputs: str | list[str | list[str]]
    truncate: bool | None = None
    truncation_direction: str | None = None
    raw_scores: bool | None = None


class EmbedBody(msgspec.Struct):
    """The body of POST /embed; fields that TEI does not know are ignored, as TEI does."""

    inputs: str | list[str]
    truncate: bool | None = None
    truncation_direction: str | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    dimensions: int | None = None


class Prediction(msgspec.Struct):
    """One class of one answer."""

    score: float
    label: str


class Entity(msgspec.Struct):
    """One entity of one answer; characters of the text, `end` exclusive."""

    entity_group: str
    score: float
    word: str
    start: int
    end: int


class PredictRequest(msgspec.Struct, frozen=True):
    """A valid request: at least one text or pair, none of them empty."""

    texts: tuple[TextInput, ...]
    batched: bool
    truncate: bool
    raw_scores: bool = False


_predict = msgspec.json.Decoder(PredictBody)
_embed = msgspec.json.Decoder(EmbedBody)


def parse_predict(
    body: bytes, manifest: Manifest, max_batch_texts: int = MAX_BATCH_TEXTS
) -> PredictRequest:
    """Read the body of POST /predict. Raises Refused (400, 422) for anything else."""
    document = decode(_predict, body)
    if manifest.task == "text-embedding":
        raise invalid("this model makes vectors and predicts nothing; use POST /embed")
    check_direction(document.truncation_direction)
    texts, batched = read_texts(document.inputs, manifest.text_pair)
    check_texts(texts, max_batch_texts)
    return PredictRequest(texts, batched, bool(document.truncate), bool(document.raw_scores))


def parse_embed(
    body: bytes, manifest: Manifest, max_batch_texts: int = MAX_BATCH_TEXTS
) -> PredictRequest:
    """Read the body of POST /embed. Raises Refused (400, 422) for anything else."""
    document = decode(_embed, body)
    if manifest.task != "text-embedding":
        raise invalid(f"this model's task is {manifest.task}, it makes no vectors; use /predict")
    check_direction(document.truncation_direction)
    if document.normalize is False:
        raise invalid("normalize false: this model's vectors have length 1, there are no others")
    if document.prompt_name is not None or document.dimensions is not None:
        raise invalid("prompt_name and dimensions are not supported; leave them out")
    texts = (document.inputs,) if isinstance(document.inputs, str) else tuple(document.inputs)
    check_texts(texts, max_batch_texts)
    return PredictRequest(texts, True, bool(document.truncate))


def check_direction(truncation_direction: str | None) -> None:
    """Raises Refused where texts are to be cut at their beginning."""
    if truncation_direction not in (None, "right", "Right"):
        raise invalid(
            f"truncation_direction {truncation_direction!r} is not supported; texts are cut at "
            "their end (right)"
        )


def check_texts(texts: Sequence[TextInput], max_batch_texts: int) -> None:
    """Raises Refused where there are none or too many, or one of them is empty."""
    if not texts:
        raise invalid(f"`inputs` has no text; {BATCH}")
    if len(texts) > max_batch_texts:
        raise invalid(f"batch size {len(texts)} > maximum allowed batch size {max_batch_texts}")
    for text in texts:
        if not all(part.strip() for part in ((text,) if isinstance(text, str) else text)):
            raise Refused(400, "Empty", "`inputs` cannot be empty; send a text with a word in it")


def read_texts(
    inputs: str | list[str | list[str]], takes_pairs: bool
) -> tuple[tuple[TextInput, ...], bool]:
    """The texts and pairs, and whether they came as a batch. Raises Refused (422)."""
    if isinstance(inputs, str):
        return (inputs,), False
    if not inputs:
        raise invalid(f"`inputs` has no text; {BATCH}")
    if isinstance(inputs[0], str):
        return (_row(inputs, takes_pairs),), False
    if any(isinstance(row, str) for row in inputs):
        raise invalid(f"`inputs` mixes texts and lists; {BATCH}")
    return tuple(_row(row, takes_pairs) for row in inputs), True


def _row(row: Sequence[str | list[str]], takes_pairs: bool) -> TextInput:
    """The text of ["text"], the pair of ["text", "other"]; more are no shape at all."""
    match row:
        case [str(text)]:
            return text
        case [str(text), str(other)] if takes_pairs:
            return text, other
        case [str(), str()]:
            raise invalid(PAIR)
    raise invalid(f"`inputs` is neither a text nor a batch; {BATCH}")


def encode_predictions(
    answers: Sequence[Scored], manifest: Manifest, request: PredictRequest
) -> bytes:
    """The reply to POST /predict."""
    shape = SHAPES[manifest.task]
    rows = [shape(answer, manifest.labels, request.raw_scores) for answer in answers]
    return msgspec.json.encode(rows if request.batched else rows[0])


def encode_embeddings(answers: Sequence[Scored]) -> bytes:
    """The reply to POST /embed."""
    return msgspec.json.encode([answer.output.embedding.tolist() for answer in answers])


def _single_label(answer: Scored, labels: Sequence[str], raw: bool) -> list[Prediction]:
    """Probabilities, or logits for raw_scores, best class first."""
    return _best_first(answer.output.logits if raw else answer.probabilities, labels)


def _multi_label(answer: Scored, labels: Sequence[str], raw: bool) -> list[Prediction]:
    """Each label's own probability, or its logit for raw_scores, best label first."""
    return _best_first(answer.output.logits if raw else sigmoid(answer.output.logits), labels)


def _best_first(scores: np.ndarray[Any, Any], labels: Sequence[str]) -> list[Prediction]:
    order = np.argsort(-scores, kind="stable").tolist()
    values = scores.tolist()
    return [Prediction(values[i], labels[i]) for i in order]


def _entities(answer: Scored, _: Sequence[str], __: bool) -> list[Entity]:
    """In the order of the text."""
    text = first_text(answer.text)
    return [
        Entity(span.label, score, text[span.start : span.end], span.start, span.end)
        for span, score in zip(answer.answer.spans, answer.answer.scores, strict=True)
    ]


SHAPES: dict[str, Callable[[Scored, Sequence[str], bool], list[Any]]] = {
    "text-classification": _single_label,
    "multi-label-classification": _multi_label,
    "token-classification": _entities,
}

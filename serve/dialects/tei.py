"""The wire shapes of Hugging Face's text-embeddings-inference, decoded and encoded by msgspec.

    POST /predict  {"inputs": "s"}                -> [{"score": 0.9, "label": "a"}, ...]
                   {"inputs": [["s"], ["t"]]}     -> [[{...}, ...], [{...}, ...]], each best first
                   {"inputs": ["s", "t"]}         is ONE PAIR of texts, [["s", "t"], ...] a batch
    POST /embed    {"inputs": "s" or ["s", "t"]}  -> [[0.1, ...], ...]
Source: router/src/http/types.rs of text-embeddings-inference. A tagger answers /predict in the
shape of Hugging Face's token-classification: [{"entity_group", "score", "word", "start", "end"}].
"""

from collections.abc import Sequence

import msgspec

from edgeloop.records import Manifest
from edgeloop.rows import TextInput, first_text
from serve.body import decode
from serve.dialects.dialect import (
    MAX_BATCH_TEXTS,
    Dialect,
    Reply,
    Route,
    TextRequest,
    tei_shape,
)
from serve.dialects.scores import CLASSIFIERS, best_first, class_scores
from serve.dialects.texts import check_direction, check_texts
from serve.jobs import Scored
from serve.refused import invalid

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


_predict = msgspec.json.Decoder(PredictBody)
_embed = msgspec.json.Decoder(EmbedBody)


def parse_predict(
    body: bytes, manifest: Manifest, max_batch_texts: int = MAX_BATCH_TEXTS
) -> TextRequest:
    """Read the body of POST /predict. Raises Refused (400, 422) for anything else."""
    document = decode(_predict, body)
    if manifest.task == "text-embedding":
        raise invalid("this model makes vectors and predicts nothing; use POST /embed")
    check_direction(document.truncation_direction)
    texts, batched = read_texts(document.inputs, manifest.text_pair)
    check_texts(texts, max_batch_texts)
    return TextRequest(texts, batched, bool(document.truncate), bool(document.raw_scores))


def parse_embed(
    body: bytes, manifest: Manifest, max_batch_texts: int = MAX_BATCH_TEXTS
) -> TextRequest:
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
    return TextRequest(texts, True, bool(document.truncate))


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
    answers: Sequence[Scored], manifest: Manifest, request: TextRequest
) -> bytes:
    """The reply to POST /predict."""
    rows = [
        predictions(answer, manifest, request.raw_scores)
        if manifest.task in CLASSIFIERS
        else entities(answer)
        for answer in answers
    ]
    return msgspec.json.encode(rows if request.batched else rows[0])


def encode_embeddings(answers: Sequence[Scored]) -> bytes:
    """The reply to POST /embed."""
    return msgspec.json.encode([answer.output.embedding.tolist() for answer in answers])


def predictions(answer: Scored, manifest: Manifest, raw: bool) -> list[Prediction]:
    """Probabilities, or logits where they are wanted raw, best class first."""
    scores = class_scores(answer, manifest.task, raw)
    values = scores.tolist()
    return [Prediction(values[i], manifest.labels[i]) for i in best_first(scores)]


def entities(answer: Scored) -> list[Entity]:
    """In the order of the text."""
    text = first_text(answer.text)
    return [
        Entity(span.label, score, text[span.start : span.end], span.start, span.end)
        for span, score in zip(answer.answer.spans, answer.answer.scores, strict=True)
    ]


PREDICT = Dialect(
    parse=lambda asked, bundle, most: parse_predict(asked.body, bundle.manifest, most),
    encode=lambda answers, bundle, request: Reply(
        encode_predictions(answers, bundle.manifest, request)
    ),
)
EMBED = Dialect(
    parse=lambda asked, bundle, most: parse_embed(asked.body, bundle.manifest, most),
    encode=lambda answers, bundle, request: Reply(encode_embeddings(answers)),
)
ROUTES = (Route("/predict", tei_shape, PREDICT), Route("/embed", tei_shape, EMBED))

"""Our own shape of an answer, one for all tasks: POST /v1/predict.

    {"inputs": as for /predict, or as for /embed where the model makes vectors, "truncate": false}
    -> {"predictions": [{"labels": ["a"], "scores": [0.9], "spans": [], "score": 0.9,
                         "abstained": false}], "embeddings": [], "bundle": "<digest>",
        "timings": {"queue_ms": 0.1, "inference_ms": 1.9, "stages": ["first"]}}

`predictions` and `embeddings` (text-embedding) have a row per text. `score` is how sure the model
is of the whole answer; `abstained` says that it is too low for the answer to stand. `stages`: a
cascade's alone.
"""

from collections.abc import Sequence

import msgspec

from edgeloop.bundle import Bundle
from edgeloop.records import Manifest
from edgeloop.rows import first_text
from serve.dialects.dialect import (
    MAX_BATCH_TEXTS,
    Dialect,
    Reply,
    Route,
    TextRequest,
    tei_shape,
)
from serve.dialects.tei import parse_embed, parse_predict
from serve.jobs import Scored


class SpanFound(msgspec.Struct):
    """Characters [start, end) of the (first) text."""

    start: int
    end: int
    label: str
    score: float
    text: str


class Prediction(msgspec.Struct):
    """The answer to one text or pair."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    spans: list[SpanFound]
    score: float
    abstained: bool


class Timings(msgspec.Struct, omit_defaults=True):
    """The longest wait of a text for a thread, and all texts' tokenizing and inference; of a
    cascade which stage answered each text."""

    queue_ms: float
    inference_ms: float
    stages: tuple[str, ...] = ()


class V1Reply(msgspec.Struct):
    """The whole answer."""

    predictions: list[Prediction]
    embeddings: list[list[float]]
    bundle: str
    timings: Timings


def parse_v1(
    body: bytes, manifest: Manifest, max_batch_texts: int = MAX_BATCH_TEXTS
) -> TextRequest:
    """Read the body of POST /v1/predict. Raises Refused (400, 422) for anything else."""
    if manifest.task == "text-embedding":
        return parse_embed(body, manifest, max_batch_texts)
    return parse_predict(body, manifest, max_batch_texts)


def encode_v1(answers: Sequence[Scored], bundle: Bundle) -> bytes:
    """The reply to POST /v1/predict."""
    has_vectors = bundle.manifest.task == "text-embedding"
    reply = V1Reply(
        predictions=[] if has_vectors else [_prediction(answer) for answer in answers],
        embeddings=[a.output.embedding.tolist() for a in answers] if has_vectors else [],
        bundle=bundle.digest,
        timings=Timings(
            queue_ms=1000.0 * max(answer.queue_seconds for answer in answers),
            inference_ms=1000.0 * sum(answer.inference_seconds for answer in answers),
            stages=_stages(answers, bundle),
        ),
    )
    return msgspec.json.encode(reply)


def _stages(answers: Sequence[Scored], bundle: Bundle) -> tuple[str, ...]:
    is_cascade = bundle.manifest.engine == "cascade"
    return tuple(answer.stage for answer in answers) if is_cascade else ()


def _prediction(scored: Scored) -> Prediction:
    answer, text = scored.answer, first_text(scored.text)
    spans = [
        SpanFound(span.start, span.end, span.label, score, text[span.start : span.end])
        for span, score in zip(answer.spans, answer.scores, strict=False)
    ]
    return Prediction(answer.labels, answer.scores, spans, answer.score, scored.abstained)


ROUTES = (
    Route(
        "/v1/predict",
        tei_shape,
        Dialect(
            parse=lambda asked, bundle, most: parse_v1(asked.body, bundle.manifest, most),
            encode=lambda answers, bundle, request: Reply(encode_v1(answers, bundle)),
        ),
    ),
)

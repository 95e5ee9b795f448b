"""vLLM's POST /classify and POST /pooling.

    /classify {"input": "s" or ["s", "t"], "use_activation": true}
        -> {"id": "classify-...", "object": "list", "created": 1, "model": "tiny",
            "data": [{"index": 0, "label": "a", "probs": [...], "num_classes": 3}], "usage": {...}}
    /pooling  {"input": ..., "encoding_format": "float" | "base64" | "bytes"}
        -> the same, with data [{"index": 0, "object": "pooling", "data": [...]}]; "bytes" gives the
           numbers alone, and what they are as JSON in the header `metadata`
/pooling has the scores of a classifier, of each token of a tagger, or a vector (task "classify",
"token_classify", "embed"; as the model has it where none is named). What this server cannot do is
refused, not ignored. Source: vllm/entrypoints/pooling of vLLM.
"""

import base64
import re
import time
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from serve.body import decode
from serve.dialects.dialect import (
    Asked,
    Dialect,
    Reply,
    Route,
    TextRequest,
    check_model,
    send,
)
from serve.dialects.openai import ErrorReply, Problem, Usage, usage
from serve.dialects.scores import CLASSIFIERS, class_scores, tag_scores
from serve.dialects.texts import check_dimensions, check_direction, check_texts, read_input
from serve.jobs import Scored
from serve.refused import Refused, invalid

POOLING_TASKS = {
    "text-classification": "classify",
    "multi-label-classification": "classify",
    "token-classification": "token_classify",
    "text-embedding": "embed",
}
DTYPES = {"float32": "f4", "float16": "f2"}
Format = Literal["float", "base64", "bytes"]
# It comes back in a header.
PLAIN_ID = re.compile("[!-~]{1,128}")


class ClassifyBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /classify. `user` is for whom the caller asks; no answer depends on it."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    user: str | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    add_special_tokens: bool | None = None
    priority: int | None = None
    request_id: str | None = None


class PoolingBody(ClassifyBody, forbid_unknown_fields=True):
    """The body of POST /pooling."""

    task: str | None = None
    dimensions: int | None = None
    encoding_format: Format | None = None
    embed_dtype: Literal["float32", "float16"] | None = None
    endianness: Literal["native", "little", "big"] | None = None


class VllmRequest(TextRequest, frozen=True):
    """With the id and the form of the answer; `dtype` in numpy's words."""

    id: str = ""
    format: Format = "float"
    dtype: str = "<f4"
    dtype_name: str = "float32"
    dimensions: int | None = None


class VllmUsage(Usage):
    """vLLM has the tokens of an answer here too."""

    completion_tokens: int = 0


class Classified(msgspec.Struct):
    """A text's scores in the order of the labels, and the label of the highest."""

    index: int
    label: str
    probs: list[float]
    num_classes: int


class Pooled(msgspec.Struct):
    """A text's numbers, or in base64."""

    index: int
    data: list[float | list[float]] | str
    object: Literal["pooling"] = "pooling"


class ClassifyReply(msgspec.Struct):
    """The reply to POST /classify."""

    id: str
    created: int
    model: str
    data: list[Classified]
    usage: VllmUsage
    object: Literal["list"] = "list"


class PoolingReply(msgspec.Struct):
    """The reply to POST /pooling."""

    id: str
    created: int
    model: str
    data: list[Pooled]
    usage: VllmUsage
    object: Literal["list"] = "list"


class Segment(msgspec.Struct):
    """Where a text's numbers are in a reply of bytes: [start, end)."""

    index: int
    embed_dtype: str
    endianness: str
    start: int
    end: int
    shape: list[int]


class BytesMetadata(msgspec.Struct):
    """The header `metadata` of a reply of bytes."""

    id: str
    created: int
    model: str
    data: list[Segment]
    usage: VllmUsage


_classify = msgspec.json.Decoder(ClassifyBody)
_pooling = msgspec.json.Decoder(PoolingBody)


def parse_classify(asked: Asked, bundle: Bundle, most_texts: int) -> VllmRequest:
    """Raises Refused (400, 404, 422) for what is no such request, or asks for what is not there."""
    document = decode(_classify, asked.body)
    if bundle.manifest.task not in CLASSIFIERS:
        raise invalid(
            f"this model's task is {bundle.manifest.task}, it does not classify texts; use POST "
            "/pooling"
        )
    return VllmRequest(**_common(document, bundle, most_texts, "classify"))


def parse_pooling(asked: Asked, bundle: Bundle, most_texts: int) -> VllmRequest:
    """Raises Refused (400, 404, 422) for what is no such request, or asks for what is not there."""
    document = decode(_pooling, asked.body)
    own_task = POOLING_TASKS[bundle.manifest.task]
    if document.task not in (None, own_task):
        raise invalid(f"task {document.task!r} is not this model's, which is {own_task!r}")
    if document.dimensions is not None and own_task != "embed":
        raise invalid(f"dimensions means nothing to the task {own_task!r}; leave it out")
    if document.use_activation is False and own_task == "embed":
        raise invalid("use_activation false: this model's vectors have length 1, always")
    dtype_name = document.embed_dtype or "float32"
    order = ">" if document.endianness == "big" else "<"
    return VllmRequest(
        **_common(document, bundle, most_texts, "pool"),
        format=document.encoding_format or "float",
        dtype=order + DTYPES[dtype_name],
        dtype_name=dtype_name,
        dimensions=document.dimensions,
    )


def _common(document: ClassifyBody, bundle: Bundle, most_texts: int, prefix: str) -> dict[str, Any]:
    check_model(document.model, bundle)
    check_direction(document.truncation_side, "truncation_side")
    if document.add_special_tokens is False:
        raise invalid("add_special_tokens false is not supported: the model was trained with them")
    if document.priority:
        raise invalid(f"priority {document.priority} is not supported; leave it out")
    if document.truncate_prompt_tokens not in (None, -1, bundle.manifest.max_tokens):
        raise invalid(
            f"truncate_prompt_tokens {document.truncate_prompt_tokens} is not supported; -1 cuts "
            f"at the model's own {bundle.manifest.max_tokens}"
        )
    texts = read_input(document.input)
    check_texts(texts, most_texts, "input")
    if document.request_id is not None and not PLAIN_ID.fullmatch(document.request_id):
        raise invalid("request_id is not 1 to 128 printable ASCII characters; leave it out")
    return {
        "texts": texts,
        "batched": True,
        "truncate": document.truncate_prompt_tokens is not None,
        "raw_scores": document.use_activation is False,
        "id": f"{prefix}-{document.request_id or uuid.uuid4().hex}",
    }


def encode_classify(answers: Sequence[Scored], bundle: Bundle, request: VllmRequest) -> Reply:
    """The reply to POST /classify."""
    manifest = bundle.manifest
    data = []
    for i, answer in enumerate(answers):
        scores = class_scores(answer, manifest.task, request.raw_scores)
        best = manifest.labels[int(scores.argmax())]
        data.append(Classified(i, best, scores.tolist(), len(scores)))
    return send(ClassifyReply(request.id, int(time.time()), manifest.name, data, _usage(answers)))


def encode_pooling(answers: Sequence[Scored], bundle: Bundle, request: VllmRequest) -> Reply:
    """Raises Refused (422) where vectors of another size are wanted: theirs is known only now."""
    rows = [_numbers(answer, bundle.manifest.task, request.raw_scores) for answer in answers]
    if request.dimensions is not None:
        check_dimensions(request.dimensions, len(rows[0]))
    created, name = int(time.time()), bundle.manifest.name
    if request.format == "bytes":
        return _as_bytes(rows, request, created, name, _usage(answers))
    data = [Pooled(i, _told(row, request)) for i, row in enumerate(rows)]
    return send(PoolingReply(request.id, created, name, data, _usage(answers)))


def _numbers(answer: Scored, task: str, raw: bool) -> NDArray[Any]:
    if task == "text-embedding":
        return answer.output.embedding
    return class_scores(answer, task, raw) if task in CLASSIFIERS else tag_scores(answer, raw)


def _told(row: NDArray[Any], request: VllmRequest) -> list[float | list[float]] | str:
    if request.format == "base64":
        return base64.b64encode(row.astype(request.dtype).tobytes()).decode()
    numbers: list[float | list[float]] = row.tolist()
    return numbers


def _as_bytes(
    rows: Sequence[NDArray[Any]], request: VllmRequest, created: int, name: str, used: VllmUsage
) -> Reply:
    parts = [row.astype(request.dtype).tobytes() for row in rows]
    ends = np.cumsum([len(part) for part in parts]).tolist()
    order = "big" if request.dtype.startswith(">") else "little"
    segments = [
        Segment(i, request.dtype_name, order, end - len(part), end, list(row.shape))
        for i, (part, end, row) in enumerate(zip(parts, ends, rows, strict=True))
    ]
    metadata = BytesMetadata(request.id, created, name, segments, used)
    headers = [(b"metadata", msgspec.json.encode(metadata))]
    return Reply(b"".join(parts), headers, b"application/octet-stream")


def _usage(answers: Sequence[Scored]) -> VllmUsage:
    used = usage(answers)
    return VllmUsage(used.prompt_tokens, used.total_tokens)


def shape(problem: Refused) -> tuple[int, bytes]:
    """{"error": {"message", "type", "param", "code"}}: status and body. The code is the status."""
    status = 400 if problem.status == 422 else problem.status
    kind = HTTPStatus(status).phrase.replace(" ", "").replace("-", "") + (
        "Error" if status < 500 else ""
    )
    return status, msgspec.json.encode(ErrorReply(Problem(problem.message, kind, None, status)))


LONGER = 'shorten it, or send "truncate_prompt_tokens": -1 to have it cut at its end'
CLASSIFY = Dialect(parse_classify, encode_classify, "input", LONGER)
POOLING = Dialect(parse_pooling, encode_pooling, "input", LONGER)
ROUTES = (Route("/classify", shape, CLASSIFY), Route("/pooling", shape, POOLING))

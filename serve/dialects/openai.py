"""OpenAI's API as far as a small model has it: POST /v1/embeddings, GET /v1/models.

    {"model": "tiny", "input": "s" or ["s", "t"], "encoding_format": "float" or "base64"}
        -> {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": ...}],
            "model": "tiny", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
base64 is float32, little-endian, and what OpenAI's own SDK asks for. Errors are
{"error": {"message", "type", "param", "code"}}, with 400 for what other dialects answer 422.
Source: the OpenAPI document of the API, and openai-python.
"""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from serve.body import decode
from serve.dialects.dialect import (
    UNKNOWN_MODEL,
    Asked,
    Dialect,
    Reply,
    Route,
    Served,
    TextRequest,
    check_model,
    send,
)
from serve.dialects.texts import check_dimensions, check_texts, read_input
from serve.jobs import Scored
from serve.refused import Refused, invalid

# type and code by status; every other status is a server_error.
TYPES: dict[int, tuple[str, str | None]] = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", None),
    424: ("server_error", "model_failed"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    503: ("server_error", "overloaded"),
    504: ("server_error", "timeout"),
}


class EmbeddingsBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/embeddings. `user`: for whom is asked; no answer depends on it."""

    input: str | list[str | int | list[int]]
    model: str
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class EmbeddingsRequest(TextRequest, frozen=True):
    """With the form of the vectors; `dimensions` 0: as many as there are."""

    base64: bool = False
    dimensions: int | None = None


class Embedding(msgspec.Struct):
    """One text's vector, as numbers or in base64."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class Usage(msgspec.Struct):
    """Tokens that the model read, special ones with the others."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsReply(msgspec.Struct):
    """The reply to POST /v1/embeddings."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class ModelCard(msgspec.Struct):
    """The served model. `created`: when its bundle was made, seconds since the epoch; `root`: the
    bundle's digest."""

    id: str
    created: int
    root: str
    max_model_len: int
    object: Literal["model"] = "model"
    owned_by: Literal["edgeloop"] = "edgeloop"
    parent: str | None = None


class ModelList(msgspec.Struct):
    """The reply to GET /v1/models."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


class Problem(msgspec.Struct):
    """What is wrong, in OpenAI's words: `type` and `code` are what its SDK tells apart."""

    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class ErrorReply(msgspec.Struct):
    """The shape of every error."""

    error: Problem


_embeddings = msgspec.json.Decoder(EmbeddingsBody)


def parse(asked: Asked, bundle: Bundle, most_texts: int) -> EmbeddingsRequest:
    """Raises Refused (400, 404, 422) for what is no such request, or asks for what is not there."""
    document = decode(_embeddings, asked.body)
    check_model(document.model, bundle)
    if bundle.manifest.task != "text-embedding":
        raise invalid(
            f"this model's task is {bundle.manifest.task}, it makes no vectors; use POST /classify"
        )
    texts = read_input(document.input)
    check_texts(texts, most_texts, "input")
    return EmbeddingsRequest(
        texts,
        batched=True,
        base64=document.encoding_format == "base64",
        dimensions=document.dimensions,
    )


def encode(answers: Sequence[Scored], bundle: Bundle, request: EmbeddingsRequest) -> Reply:
    """Raises Refused (422) where vectors of another size are wanted: theirs is known only now."""
    check_dimensions(request.dimensions, len(answers[0].output.embedding))
    data = [
        Embedding(i, told(answer.output.embedding, request.base64))
        for i, answer in enumerate(answers)
    ]
    return send(EmbeddingsReply(data, bundle.manifest.name, usage(answers)))


def told(values: NDArray[np.float32], in_base64: bool) -> list[float] | str:
    """A vector as numbers, or its float32, little-endian, in base64."""
    if in_base64:
        return base64.b64encode(values.astype("<f4").tobytes()).decode()
    numbers: list[float] = values.tolist()
    return numbers


def usage(answers: Sequence[Scored]) -> Usage:
    """The tokens of all texts."""
    tokens = sum(answer.tokens for answer in answers)
    return Usage(tokens, tokens)


def model_card(bundle: Bundle) -> ModelCard:
    """What is to be said of the served model."""
    manifest = bundle.manifest
    created = int(datetime.fromisoformat(manifest.created_at).timestamp())
    return ModelCard(manifest.name, created, bundle.digest, manifest.max_tokens)


def list_models(served: Served, _: Asked) -> Reply:
    """GET /v1/models."""
    return send(ModelList([model_card(served.bundle)]))


def show_model(served: Served, asked: Asked) -> Reply:
    """GET /v1/models/{model}. Raises Refused (404)."""
    check_model(asked.names["model"], served.bundle)
    return send(model_card(served.bundle))


def shape(problem: Refused) -> tuple[int, bytes]:
    """{"error": {"message", "type", "param", "code"}}: status and body."""
    status = 400 if problem.status == 422 else problem.status
    other = "invalid_request_error" if status < 500 else "server_error"
    kind, code = TYPES.get(status, (other, None))
    if problem.reason == UNKNOWN_MODEL:
        code = "model_not_found"
    return status, msgspec.json.encode(ErrorReply(Problem(problem.message, kind, None, code)))


EMBEDDINGS = Dialect(parse, encode, inputs="input", longer="shorten it")
ROUTES = (
    Route("/v1/embeddings", shape, EMBEDDINGS),
    Route("/v1/models", shape, views={"GET": list_models}),
    Route("/v1/models/{model}", shape, views={"GET": show_model}, group="/v1/models"),
)

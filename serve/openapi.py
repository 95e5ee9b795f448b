"""GET /openapi.json: the public routes as an OpenAPI 3.1 document, made from the structs that
bodies are decoded into and encoded from, and from the status codes that the metrics know.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from serve.console.state import State
from serve.dialects import hf, oip, oip_about, openai, tei, v1, vllm
from serve.dialects.dialect import Shape, tei_shape
from serve.dialects.oip_binary import JSON_LENGTH
from serve.dialects.routes import DIALECTS, ROUTES, shape_at
from serve.feedback import FeedbackBody
from serve.metrics import ROUTE_CODES
from serve.refused import TeiError

JSON, OCTETS = "application/json", "application/octet-stream"
# What a view may give although it does not know.
ANY_CODES = frozenset((401, 403, 429, 500))
# Nobody gets these as the answer to an operation: a closed connection, and another method.
NOT_TOLD = (405, 499)
ERRORS: dict[Shape, type] = {
    tei_shape: TeiError,
    openai.shape: openai.ErrorReply,
    vllm.shape: openai.ErrorReply,
    oip.shape: oip.OipError,
}
SCORES = list[tei.Prediction]
ENTITIES = list[tei.Entity]
VECTORS = list[list[float]]


class Stored(msgspec.Struct):
    """How many labels are new."""

    stored: int


@dataclass(frozen=True)
class Operation:
    """What one method of a route takes and gives: one of `bodies`, one of `replies`, by the model's
    task and the request. `other`: the content type of a reply that is not JSON, `binary` of a body.
    `unwell`: what 503 gives, where that is no error. `codes`: of a view, beside those that any
    route may have."""

    summary: str
    bodies: tuple[Any, ...] = ()
    replies: tuple[Any, ...] = (dict[str, Any],)
    other: str = ""
    binary: bool = False
    unwell: Any = None
    codes: tuple[int, ...] = (200,)


INFER = Operation("Answer tensors of texts", (oip.InferBody,), (oip.InferReply,), OCTETS, True)
HF = Operation(
    "Answer as InferenceClient expects",
    (hf.HfBody,),
    (list[SCORES], ENTITIES, list[ENTITIES], VECTORS),
)
FOUND = (200, 404)
_ABOUT_MODEL = {
    "": Operation("The model's tensors", replies=(oip_about.ModelAbout,), codes=FOUND),
    "/ready": Operation(
        "Is the model ready?",
        replies=(oip_about.ModelReady,),
        unwell=oip_about.ModelReady,
        codes=(*FOUND, 503),
    ),
    "/config": Operation(
        "The model's configuration", replies=(oip_about.ModelConfig,), codes=FOUND
    ),
    "/stats": Operation("What the model answered", replies=(oip_about.StatsReply,), codes=FOUND),
    "/infer": INFER,
}
_HEALTH = oip_about.HealthAbout
REFUSED = Operation("Refused here", replies=(), codes=(413, 415))
OPERATIONS: dict[str, Operation] = {
    "POST /predict": Operation(
        "Classify or tag texts",
        (tei.PredictBody,),
        (SCORES, list[SCORES], ENTITIES, list[ENTITIES]),
    ),
    "POST /embed": Operation("Make vectors of texts", (tei.EmbedBody,), (VECTORS,)),
    "POST /v1/predict": Operation(
        "Answer texts in one shape for all tasks", (tei.PredictBody, tei.EmbedBody), (v1.V1Reply,)
    ),
    "POST /": HF,
    "POST /hf/{model}": HF,
    "POST /v1/embeddings": Operation(
        "Make vectors of texts", (openai.EmbeddingsBody,), (openai.EmbeddingsReply,)
    ),
    "GET /v1/models": Operation("The served model", replies=(openai.ModelList,)),
    "GET /v1/models/{model}": Operation("One model", replies=(openai.ModelCard,), codes=FOUND),
    "POST /classify": Operation("Classify texts", (vllm.ClassifyBody,), (vllm.ClassifyReply,)),
    "POST /pooling": Operation(
        "The model's numbers", (vllm.PoolingBody,), (vllm.PoolingReply,), OCTETS
    ),
    "GET /v2": Operation("The server", replies=(oip_about.ServerAbout,)),
    "GET /v2/health/live": Operation(
        "Is it alive?", replies=(_HEALTH,), unwell=_HEALTH, codes=(200, 503)
    ),
    "GET /v2/health/ready": Operation(
        "Is it ready?", replies=(_HEALTH,), unwell=_HEALTH, codes=(200, 503)
    ),
    "GET /v2/models": Operation("The served model", replies=(oip_about.ModelNames,)),
    "GET /v2/models/stats": Operation("What all models answered", replies=(oip_about.StatsReply,)),
    **{
        f"{'POST' if part == '/infer' else 'GET'} /v2/models/{{model}}{version}{part}": operation
        for version in ("", "/versions/{version}")
        for part, operation in _ABOUT_MODEL.items()
    },
    "POST /v2/repository/index": Operation(
        "The models",
        (oip_about.IndexBody,),
        (list[oip_about.IndexEntry],),
        codes=(200, 400, 413, 415),
    ),
    "POST /v2/repository/models/{model}/load": REFUSED,
    "POST /v2/repository/models/{model}/unload": REFUSED,
    "POST /feedback": Operation("Store the right label of a text", (FeedbackBody,), (Stored,)),
    "GET /health": Operation("Is the server well?", unwell=dict[str, Any]),
    "GET /info": Operation("The served bundle"),
    "GET /metrics": Operation("Prometheus metrics", replies=(), other="text/plain"),
    "GET /drift": Operation("Where the drift monitor stands"),
    "GET /openapi.json": Operation("This document"),
    "GET /console/state": Operation("What the console shows", replies=(State,)),
}


@cache
def document() -> bytes:
    """The document, as JSON."""
    types = _types()
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    known = list(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for key, operation in OPERATIONS.items():
        method, _, path = key.partition(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, known)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "edgeloop", "version": oip_about.own_version()},
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _types() -> list[Any]:
    found: list[Any] = [*ERRORS.values()]
    for operation in OPERATIONS.values():
        found += [*operation.replies, *operation.bodies, operation.unwell]
    unique: list[Any] = []
    for one in found:
        if one is not None and one not in unique:
            unique.append(one)
    return unique


Known = list[tuple[Any, dict[str, Any]]]


def _schema(one: Any, known: Known) -> dict[str, Any]:
    return next(schema for type_, schema in known if type_ == one)


def _any_of(types: Iterable[Any], known: Known) -> dict[str, Any]:
    schemas = [_schema(one, known) for one in types]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _operation(path: str, operation: Operation, known: Known) -> dict[str, Any]:
    told: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [_tag(path)],
        "parameters": _parameters(path, operation),
        "responses": _responses(path, operation, known),
    }
    if operation.bodies:
        content = {JSON: {"schema": _any_of(operation.bodies, known)}}
        if operation.binary:
            content[OCTETS] = {"schema": {}}
        required = oip_about.IndexBody not in operation.bodies
        told["requestBody"] = {"required": required, "content": content}
    return told


def _tag(path: str) -> str:
    for name, routes in DIALECTS.items():
        if any(route.template == path for route in routes):
            return name
    return "edgeloop"


def _parameters(path: str, operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {"type": "string"}}
        for part in path.split("/")
        if part.startswith("{")
    ]
    if path in ROUTES and ROUTES[path].dialect is not None:
        found.append(_header("x-request-timeout-ms", {"type": "number", "exclusiveMinimum": 0}))
    if operation.binary:
        found.append(_header(JSON_LENGTH.decode(), {"type": "integer", "minimum": 0}))
    return found


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema}


def _responses(path: str, operation: Operation, known: Known) -> dict[str, Any]:
    error = {"schema": _schema(ERRORS[shape_at(path)], known)}
    found: dict[str, Any] = {}
    for code in sorted(_codes(path, operation)):
        content: dict[str, Any] = {JSON: error}
        if code == 200:
            content = _answer(operation, known)
        elif code == 503 and operation.unwell is not None:
            content = {JSON: {"schema": _schema(operation.unwell, known)}}
        found[str(code)] = {"description": _word(code), "content": content}
    return found


def _codes(path: str, operation: Operation) -> set[int]:
    route = ROUTES.get(path)
    known = set(ROUTE_CODES[path if route is None else route.label]) - set(NOT_TOLD)
    if route is None or route.dialect is not None:
        return known
    return known & {*operation.codes, *ANY_CODES}


def _answer(operation: Operation, known: Known) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.replies:
        content[JSON] = {"schema": _any_of(operation.replies, known)}
    if operation.other:
        content[operation.other] = {"schema": {}}
    return content


def _word(code: int) -> str:
    return "the answer" if code == 200 else "an error"

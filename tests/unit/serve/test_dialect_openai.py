"""The shapes of OpenAI's API."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from serve.dialects import openai
from serve.dialects.dialect import Asked, Served
from serve.refused import Refused
from serve.tally import Tally
from tests.asked import EMBEDDER, SINGLE, parse, refusal, scored

EMBEDDINGS = openai.EMBEDDINGS
SERVED = Served(SINGLE, True, True, Tally())


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "input": "a", **changes}


def told(*answers: Any, **changes: Any) -> Any:
    request = parse(EMBEDDINGS, body(**changes), EMBEDDER)
    return json.loads(EMBEDDINGS.encode(answers, EMBEDDER, request).body)


def test_vectors_are_told_with_what_they_took() -> None:
    answers = [scored([], EMBEDDER, tokens=3), scored([], EMBEDDER, tokens=4)]
    reply = told(*answers, input=["a", "b"])
    assert [(row["index"], row["object"]) for row in reply["data"]] == [
        (0, "embedding"),
        (1, "embedding"),
    ]
    assert reply["data"][1]["embedding"] == pytest.approx([0.6, 0.8])
    assert (reply["object"], reply["model"]) == ("list", "tiny")
    assert reply["usage"] == {"prompt_tokens": 7, "total_tokens": 7}


def test_base64_has_the_same_numbers() -> None:
    answer = scored([], EMBEDDER)
    text = told(answer, encoding_format="base64")["data"][0]["embedding"]
    numbers = np.frombuffer(base64.b64decode(text), "<f4")
    np.testing.assert_array_equal(numbers, answer.output.embedding)


def test_only_the_models_own_size_may_be_asked_for() -> None:
    assert told(scored([], EMBEDDER), dimensions=2)["data"]
    problem = refusal(lambda: told(scored([], EMBEDDER), dimensions=3))
    assert "dimensions 3" in problem.message


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"input": [1, 2]}, 422, "token ids"),
        ({"input": [[1], [2]]}, 422, "token ids"),
        ({"input": ["a", 2]}, 422, "token ids"),
        ({"input": []}, 422, "no text"),
        ({"input": ""}, 400, "empty"),
        ({"input": "a\0"}, 422, "null character"),
        ({"input": ["a"] * 33}, 422, "33"),
        ({"encoding_format": "int8"}, 422, "int8"),
        ({"truncate": True}, 422, "truncate"),
        ({"model": "text-embedding-3-small"}, 404, "text-embedding-3-small"),
    ],
)
def test_what_is_not_served_is_refused(changes: dict[str, Any], status: int, says: str) -> None:
    problem = refusal(lambda: parse(EMBEDDINGS, body(**changes), EMBEDDER))
    assert problem.status == status
    assert says in problem.message


def test_a_model_without_vectors_says_what_it_has() -> None:
    assert "/classify" in refusal(lambda: parse(EMBEDDINGS, body())).message


def test_the_model_is_listed_and_shown() -> None:
    listed = json.loads(openai.list_models(SERVED, Asked(b"")).body)
    shown = json.loads(openai.show_model(SERVED, Asked(b"", names={"model": "tiny"})).body)
    assert listed == {"object": "list", "data": [shown]}
    assert (shown["id"], shown["created"], shown["root"]) == ("tiny", 1767225600, SINGLE.digest)
    asked = Asked(b"", names={"model": "gpt"})
    assert refusal(lambda: openai.show_model(SERVED, asked)).status == 404


@pytest.mark.parametrize(
    ("problem", "status", "kind", "code"),
    [
        (Refused(422, "Validation", "m"), 400, "invalid_request_error", None),
        (Refused(413, "Validation", "m"), 413, "invalid_request_error", None),
        (Refused(401, "Unauthorized", "m"), 401, "authentication_error", "invalid_api_key"),
        (Refused(403, "Forbidden", "m"), 403, "permission_error", None),
        (
            Refused(404, "NotFound", "m", "unknown_model"),
            404,
            "invalid_request_error",
            "model_not_found",
        ),
        (Refused(404, "NotFound", "m"), 404, "invalid_request_error", None),
        (Refused(424, "Backend", "m"), 424, "server_error", "model_failed"),
        (Refused(429, "Overloaded", "m"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (Refused(503, "Overloaded", "m"), 503, "server_error", "overloaded"),
        (Refused(504, "Timeout", "m"), 504, "server_error", "timeout"),
        (Refused(500, "Backend", "m"), 500, "server_error", None),
    ],
)
def test_errors_have_openais_shape(
    problem: Refused, status: int, kind: str, code: str | None
) -> None:
    told_status, told_body = openai.shape(problem)
    error = {"message": "m", "type": kind, "param": None, "code": code}
    assert (told_status, json.loads(told_body)) == (status, {"error": error})

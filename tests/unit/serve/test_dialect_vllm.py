"""The shapes of vLLM's /classify and /pooling."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from serve.dialects.dialect import Dialect, Reply
from serve.dialects.vllm import CLASSIFY, POOLING, shape
from serve.refused import Refused
from tests.asked import EMBEDDER, MULTI, SINGLE, TAGGER, parse, refusal, scored

TAGS = [[0, 9, 0, 0, 0], [0, 0, 0, 9, 0]]


def reply(dialect: Dialect[Any], bundle: Bundle, *answers: Any, **changes: Any) -> Reply:
    document = {"input": ["t"] * len(answers), **changes}
    return dialect.encode(answers, bundle, parse(dialect, document, bundle))


def told(dialect: Dialect[Any], bundle: Bundle, *answers: Any, **changes: Any) -> Any:
    return json.loads(reply(dialect, bundle, *answers, **changes).body)


def test_classes_come_in_the_order_of_the_labels() -> None:
    answer = scored([0.0, 2.0])
    found = told(CLASSIFY, SINGLE, answer, answer, request_id="r1", model="tiny")
    assert found["id"] == "classify-r1"
    assert (found["object"], found["model"]) == ("list", "tiny")
    assert found["data"][1] == {
        "index": 1,
        "label": "delivery",
        "probs": answer.probabilities.tolist(),
        "num_classes": 2,
    }
    assert found["usage"] == {"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}


def test_without_activation_there_are_logits() -> None:
    found = told(CLASSIFY, MULTI, scored([-1.5, 2.25], MULTI), use_activation=False)
    assert found["data"][0]["probs"] == [-1.5, 2.25]
    found = told(CLASSIFY, MULTI, scored([0.0, 0.0], MULTI))
    assert found["data"][0]["probs"] == [0.5, 0.5]


def test_pooling_has_what_the_task_has() -> None:
    (row,) = told(POOLING, SINGLE, scored([0.0, 0.0]), task="classify")["data"]
    assert row == {"index": 0, "object": "pooling", "data": [0.5, 0.5]}
    (row,) = told(POOLING, EMBEDDER, scored([], EMBEDDER), task="embed", dimensions=2)["data"]
    assert row["data"] == pytest.approx([0.6, 0.8])
    (row,) = told(POOLING, TAGGER, scored(TAGS, TAGGER, "ab"))["data"]
    assert np.array(row["data"]).shape == (2, 5)
    np.testing.assert_allclose(np.sum(row["data"], axis=1), 1.0)
    (row,) = told(POOLING, TAGGER, scored(TAGS, TAGGER, "ab"), use_activation=False)["data"]
    assert row["data"] == TAGS


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("endianness", "order"), [("little", "<"), ("native", "<"), ("big", ">")])
def test_numbers_in_base64_and_in_bytes_are_the_same(
    dtype: str, endianness: str, order: str
) -> None:
    form = {"embed_dtype": dtype, "endianness": endianness}
    answers = scored(TAGS, TAGGER, "ab"), scored(TAGS[:1], TAGGER, "a")
    expected = told(POOLING, TAGGER, *answers)["data"]
    in_base64 = told(POOLING, TAGGER, *answers, encoding_format="base64", **form)["data"]
    plain = reply(POOLING, TAGGER, *answers, encoding_format="bytes", **form)
    assert plain.content_type == b"application/octet-stream"
    metadata = json.loads(dict(plain.headers)[b"metadata"])
    for row, text, segment in zip(expected, in_base64, metadata["data"], strict=True):
        part = plain.body[segment["start"] : segment["end"]]
        assert base64.b64decode(text["data"]) == part
        assert segment["embed_dtype"] == dtype
        numbers = np.frombuffer(part, order + np.dtype(dtype).str[1:])
        wanted = np.array(row["data"], np.dtype(dtype))
        np.testing.assert_array_equal(numbers.reshape(segment["shape"]), wanted)
    assert len(plain.body) == metadata["data"][-1]["end"]


@pytest.mark.parametrize(
    ("dialect", "bundle", "changes", "says"),
    [
        (CLASSIFY, EMBEDDER, {}, "/pooling"),
        (CLASSIFY, TAGGER, {}, "/pooling"),
        (CLASSIFY, SINGLE, {"normalize": True}, "normalize"),
        (CLASSIFY, SINGLE, {"messages": []}, "messages"),
        (CLASSIFY, SINGLE, {"encoding_format": "float"}, "encoding_format"),
        (CLASSIFY, SINGLE, {"input": [1, 2]}, "token ids"),
        (CLASSIFY, SINGLE, {"truncation_side": "left"}, "truncation_side"),
        (CLASSIFY, SINGLE, {"truncate_prompt_tokens": 8}, "8"),
        (CLASSIFY, SINGLE, {"priority": 3}, "priority"),
        (CLASSIFY, SINGLE, {"add_special_tokens": False}, "add_special_tokens"),
        (CLASSIFY, SINGLE, {"request_id": "a\r\nb: c"}, "request_id"),
        (POOLING, SINGLE, {"task": "embed"}, "embed"),
        (POOLING, SINGLE, {"dimensions": 2}, "dimensions"),
        (POOLING, EMBEDDER, {"use_activation": False}, "use_activation"),
        (POOLING, EMBEDDER, {"embed_dtype": "bfloat16"}, "bfloat16"),
        (POOLING, EMBEDDER, {"encoding_format": "bytes_only"}, "bytes_only"),
    ],
)
def test_what_is_not_served_is_refused(
    dialect: Dialect[Any], bundle: Bundle, changes: Any, says: str
) -> None:
    problem = refusal(lambda: parse(dialect, {"input": "t", **changes}, bundle))
    assert problem.status == 422
    assert says in problem.message


def test_vectors_of_another_size_are_refused() -> None:
    problem = refusal(lambda: told(POOLING, EMBEDDER, scored([], EMBEDDER), dimensions=3))
    assert "dimensions 3" in problem.message


def test_minus_one_cuts_what_is_too_long() -> None:
    assert parse(CLASSIFY, {"input": "t", "truncate_prompt_tokens": -1}).truncate
    assert parse(CLASSIFY, {"input": "t", "truncate_prompt_tokens": 64}).truncate
    assert not parse(CLASSIFY, {"input": "t"}).truncate


@pytest.mark.parametrize(
    ("status", "told_status", "kind"),
    [(422, 400, "BadRequestError"), (404, 404, "NotFoundError"), (500, 500, "InternalServerError")],
)
def test_errors_have_vllms_shape(status: int, told_status: int, kind: str) -> None:
    found_status, body = shape(Refused(status, "Validation", "m"))
    error = {"message": "m", "type": kind, "param": None, "code": told_status}
    assert (found_status, json.loads(body)) == (told_status, {"error": error})

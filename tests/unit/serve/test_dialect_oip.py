"""The shapes of the Open Inference Protocol."""

import json
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.bundle import Bundle
from serve.dialects.oip import INFER, OipRequest, shape
from serve.dialects.oip_binary import JSON_LENGTH, read_strings, write_strings
from serve.refused import Refused
from tests import tiny
from tests.asked import (
    EMBEDDER,
    LABELS,
    MULTI,
    PAIRS,
    SINGLE,
    TAGGER,
    bundle_of,
    parse,
    refusal,
    scored,
    status_of,
)
from tests.served import floats

TEXT = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)


def column(*texts: str, name: str = "text", **changes: Any) -> dict[str, Any]:
    tensor = {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return {**tensor, **changes}


def read(document: Any, bundle: Bundle = SINGLE, **changes: Any) -> OipRequest:
    request = parse(INFER, document, bundle, **{"model": "tiny", **changes})
    assert isinstance(request, OipRequest)
    return request


def told(bundle: Bundle, *answers: Any, **changes: Any) -> Any:
    document = {"inputs": [column(*["t"] * len(answers))], **changes}
    return INFER.encode(answers, bundle, read(document, bundle))


def outputs(bundle: Bundle, *answers: Any, **changes: Any) -> dict[str, Any]:
    reply = json.loads(told(bundle, *answers, **changes).body)
    return {output["name"]: output for output in reply["outputs"]}


@pytest.mark.parametrize(
    "tensor",
    [
        column("a", "b"),
        column("a", "b", shape=[2, 1], data=[["a"], ["b"]]),
        column("a", "b", shape=[2, 1]),
        column("a", "b", data=[["a"], ["b"]], parameters={"content_type": "str"}),
        column("a", "b", parameters={"content_type": None}),
    ],
)
def test_texts_are_a_column_nested_or_not(tensor: Any) -> None:
    assert read({"inputs": [tensor]}).texts == ("a", "b")


def test_a_second_column_makes_pairs() -> None:
    both = [column("c", "d", name="text_pair"), column("a", "b")]
    assert read({"inputs": both}, PAIRS).texts == (("a", "c"), ("b", "d"))
    assert read({"inputs": [column("a")]}, PAIRS).texts == ("a",)


def test_an_answer_has_all_tensors_and_the_id() -> None:
    answers = scored([0.0, 2.0]), scored([1.0, 0.0])
    reply = json.loads(told(SINGLE, *answers, id="7").body)
    assert (reply["model_name"], reply["id"]) == ("tiny", "7")
    assert SINGLE.digest.startswith(reply["model_version"])
    assert reply["parameters"]["digest"] == SINGLE.digest
    probs, label, score = reply["outputs"]
    assert (probs["datatype"], probs["shape"]) == ("FP32", [2, 2])
    expected = np.concatenate([a.probabilities for a in answers]).astype(np.float32)
    np.testing.assert_array_equal(np.array(probs["data"], np.float32), expected)
    assert (label["datatype"], label["data"]) == ("BYTES", ["delivery", "billing"])
    assert score["data"] == [max(probs["data"][:2]), max(probs["data"][2:])]
    assert "id" not in json.loads(told(SINGLE, *answers).body)


def test_every_task_has_its_tensors() -> None:
    multi = outputs(MULTI, scored([5.0, 5.0], MULTI))
    assert multi["label"]["data"] == ["billing|delivery"]
    assert min(multi["probs"]["data"]) > 0.9
    tags = outputs(TAGGER, scored([[0, 9, 0, 0, 0]], TAGGER, "a"))
    assert set(tags) == {"entities", "score"}
    (entity,) = json.loads(tags["entities"]["data"][0])
    assert (entity["entity_group"], entity["word"]) == ("billing", "a")
    (vectors,) = outputs(EMBEDDER, scored([], EMBEDDER), scored([], EMBEDDER)).values()
    assert (vectors["name"], vectors["shape"]) == ("embedding", [2, 2])
    unsure = bundle_of(tiny.make_manifest(labels=LABELS, abstain_below=0.9))
    assert outputs(unsure, scored([0.0, 0.1], unsure))["abstained"]["data"] == [True]


def test_a_classification_is_the_best_classes_as_text() -> None:
    asked = [{"name": "probs", "parameters": {"classification": 2}}]
    found = outputs(SINGLE, scored([0.0, 2.0]), scored([1.0, 0.0]), outputs=asked)["probs"]
    assert (found["datatype"], found["shape"]) == ("BYTES", [2, 2])
    rows = [text.split(":") for text in found["data"]]
    assert [(index, label) for _, index, label in rows] == [
        ("1", "delivery"),
        ("0", "billing"),
        ("0", "billing"),
        ("1", "delivery"),
    ]
    assert floats(rows[0][0]) == scored([0.0, 2.0]).probabilities.astype(np.float32)[1]
    one = [{"name": "probs", "parameters": {"classification": 1}}]
    assert outputs(SINGLE, scored([0.0, 2.0]), outputs=one)["probs"]["shape"] == [1, 1]
    many = [{"name": "probs", "parameters": {"classification": 99}}]
    assert outputs(SINGLE, scored([0.0, 2.0]), outputs=many)["probs"]["shape"] == [1, 2]


def binary(*texts: str, size: int | None = None, rest: bytes = b"") -> tuple[bytes, Any]:
    """A body with its texts in binary, and its header."""
    data = write_strings(texts)
    parameters = {"binary_data_size": len(data) if size is None else size}
    head = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "parameters": parameters}
    document = json.dumps({"inputs": [head]}).encode()
    return document + data + rest, {JSON_LENGTH: str(len(document)).encode()}


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_texts_may_come_in_binary(texts: list[str]) -> None:
    body, headers = binary(*texts)
    assert read(body, headers=headers).texts == tuple(texts)


@given(st.binary(max_size=80), st.integers(0, 200))
def test_any_body_is_read_or_refused(rest: bytes, length: int) -> None:
    body, _ = binary("a", rest=rest)
    headers = {JSON_LENGTH: str(length).encode()}
    assert status_of(lambda: read(body, headers=headers)) in (200, 400, 422)


def test_bytes_that_belong_to_no_tensor_are_refused() -> None:
    for body, headers in (binary("a", rest=b"x"), binary("a", size=3), binary("a", size=300)):
        assert refusal(partial(read, body, headers=headers)).status == 400


def test_a_binary_answer_has_the_same_numbers() -> None:
    answers = scored([0.0, 2.0]), scored([1.0, 0.0])
    plain = outputs(SINGLE, *answers)
    reply = told(SINGLE, *answers, parameters={"binary_data_output": True})
    length = int(dict(reply.headers)[JSON_LENGTH])
    position = length
    for output in json.loads(reply.body[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        part, position = reply.body[position : position + size], position + size
        expected = plain[output["name"]]
        assert output["shape"] == expected["shape"]
        if output["datatype"] == "BYTES":
            assert read_strings(memoryview(part), 2, "label") == expected["data"]
        else:
            np.testing.assert_array_equal(np.frombuffer(part, "<f4"), floats(expected["data"]))
    assert position == len(reply.body)
    assert reply.content_type == b"application/octet-stream"


def test_an_output_may_be_binary_by_itself() -> None:
    asked = [{"name": "label"}, {"name": "score", "parameters": {"binary_data": True}}]
    reply = told(SINGLE, scored([0.0, 2.0]), outputs=asked)
    length = int(dict(reply.headers)[JSON_LENGTH])
    label, score = json.loads(reply.body[:length])["outputs"]
    assert label["data"] == ["delivery"]
    assert (score["parameters"], "data" in score) == ({"binary_data_size": 4}, False)
    not_one = {"parameters": {"binary_data_output": True}}
    asked = [{"name": "label", "parameters": {"binary_data": False}}]
    assert json.loads(told(SINGLE, scored([0.0, 2.0]), outputs=asked, **not_one).body)


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(250_000, 0.25), ("250000", 0.25), (0, math.inf), (None, math.inf)]
)
def test_the_timeout_is_in_microseconds(timeout: Any, seconds: float) -> None:
    document = {"inputs": [column("a")], "parameters": {"timeout": timeout}}
    assert read(document).timeout_seconds == seconds


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": []}, "missing"),
        ({"inputs": [column("a", name="image")]}, "image"),
        ({"inputs": [column("a"), column("b")]}, "twice"),
        ({"inputs": [column("a", name="text_pair")]}, "text_pair"),
        ({"inputs": [column("a", datatype="FP32")]}, "FP32"),
        ({"inputs": [column("a", data=[1.0])]}, "inputs"),
        ({"inputs": [column("a", shape=[2])]}, "shape"),
        ({"inputs": [column("a", shape=[0], data=[])]}, "shape"),
        ({"inputs": [column("a", shape=[-1])]}, "shape"),
        ({"inputs": [column("a", shape=[1, 1, 1])]}, "shape"),
        ({"inputs": [column("a", data=None)]}, "0 texts"),
        ({"inputs": [column("a", parameters={"headers": "x"})]}, "headers"),
        ({"inputs": [column("a", parameters={"content_type": "np"})]}, "content_type"),
        ({"inputs": [column("a", parameters={"binary_data_size": 1})]}, "both"),
        ({"parameters": {"priority": 1}}, "priority"),
        ({"parameters": {"sequence_id": 1}}, "sequence_id"),
        ({"parameters": {"timeout": -1}}, "timeout"),
        ({"parameters": {"timeout": "soon"}}, "timeout"),
        ({"parameters": {"timeout": True}}, "timeout"),
        ({"parameters": {"truncate": 1}}, "truncate"),
        ({"outputs": [{"name": "logits"}]}, "logits"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "twice"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "probs"),
        ({"outputs": [{"name": "probs", "parameters": {"classification": True}}]}, "classes"),
        ({"outputs": [{"name": "probs", "parameters": {"shared_memory_size": 1}}]}, "shared"),
        ({"raw": 1}, "raw"),
    ],
)
def test_what_is_not_served_is_refused(changes: Any, says: str) -> None:
    problem = refusal(lambda: read({"inputs": [column("a")], **changes}))
    assert problem.status == 422
    assert says in problem.message


def test_columns_of_different_lengths_make_no_pairs() -> None:
    both = [column("c", name="text_pair"), column("a", "b")]
    assert "shapes" in refusal(lambda: read({"inputs": both}, PAIRS)).message


def test_only_the_served_model_and_version_answer() -> None:
    document = {"inputs": [column("a")]}
    assert read(document, version=SINGLE.digest[:12]).texts == ("a",)
    named = {**document, "model_name": "tiny", "model_version": ""}
    assert read(named).texts == ("a",)
    for name in ("model_name", "model_version"):
        assert refusal(partial(read, {**document, name: "other"})).status == 404
    others: list[dict[str, Any]] = [{"model": "other"}, {"version": "1"}, {"version": "tiny"}]
    for names in others:
        assert refusal(partial(read, document, **names)).status == 404


def test_an_error_is_one_text() -> None:
    assert shape(Refused(422, "Validation", "m")) == (400, b'{"error":"m"}')
    assert shape(Refused(504, "Timeout", "m")) == (504, b'{"error":"m"}')

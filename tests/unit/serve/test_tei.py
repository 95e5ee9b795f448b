"""The shapes of /predict and /feedback."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.engine import Scored
from serve.tei import (
    MAX_BATCH_TEXTS,
    PredictRequest,
    Refused,
    encode_predictions,
    parse_feedback,
    parse_predict,
)

LABELS = ("billing", "delivery")
TEXT = st.text().filter(str.strip)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def refusal(data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_predict(data)
    return caught.value


def status_of(data: bytes) -> int:
    """The status that a body leads to; anything but a refusal comes through."""
    try:
        request = parse_predict(data)
    except Refused as problem:
        json.loads(problem.body())
        return problem.status
    assert all(text.strip() for text in request.texts)
    return 200


def scored(logits: list[float]) -> Scored:
    values = np.array(logits, dtype=np.float32)
    probabilities = np.exp(values.astype(np.float64)) / np.exp(values.astype(np.float64)).sum()
    return Scored("t", 3, values, probabilities, np.zeros(2, np.float32), 0.0, 0.0)


@pytest.mark.parametrize(
    ("inputs", "texts", "batched"),
    [
        ("a", ("a",), False),
        (["a"], ("a",), False),
        ([["a"]], ("a",), True),
        ([["a"], ["b"], ["c"]], ("a", "b", "c"), True),
    ],
)
def test_texts_and_batches_are_told_apart(
    inputs: Any, texts: tuple[str, ...], batched: bool
) -> None:
    request = parse_predict(body({"inputs": inputs}))
    assert (request.texts, request.batched) == (texts, batched)


def test_options_default_to_off_and_null_means_default() -> None:
    for document in ({"inputs": "a"}, {"inputs": "a", "truncate": None, "raw_scores": None}):
        request = parse_predict(body(document))
        assert (request.truncate, request.raw_scores) == (False, False)
    on = parse_predict(body({"inputs": "a", "truncate": True, "raw_scores": True}))
    assert (on.truncate, on.raw_scores) == (True, True)


def test_unknown_fields_are_ignored_as_tei_does() -> None:
    assert parse_predict(body({"inputs": "a", "parameters": {"top_k": 1}})).texts == ("a",)


@pytest.mark.parametrize("inputs", [["a", "b"], [["a", "b"]], [["a"], ["b", "c"]]])
def test_a_pair_is_refused_with_the_shape_of_a_batch(inputs: Any) -> None:
    problem = refusal(body({"inputs": inputs}))
    assert (problem.status, problem.error_type) == (422, "Validation")
    assert "pair" in problem.message
    assert '[["first"], ["second"]]' in problem.message


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {},
        {"inputs": None},
        {"inputs": 3},
        {"inputs": []},
        {"inputs": [[]]},
        {"inputs": ["a", "b", "c"]},
        {"inputs": ["a", ["b"]]},
        {"inputs": [["a"], "b"]},
        {"inputs": [["a", "b", "c"]]},
        {"inputs": [[["a"]]]},
        {"inputs": [["a"], [3]]},
        {"inputs": "a", "truncate": "yes"},
        {"inputs": "a", "raw_scores": 1},
        {"inputs": "a", "truncation_direction": "left"},
    ],
)
def test_wrong_shapes_are_422(document: Any) -> None:
    problem = refusal(body(document))
    assert (problem.status, problem.error_type) == (422, "Validation")


@pytest.mark.parametrize("data", [b"", b"nope", b'{"inputs": "a"', b'{"inputs": "\xff"}', b"\0"])
def test_what_is_not_json_is_400(data: bytes) -> None:
    assert refusal(data).status == 400


def test_a_lone_surrogate_is_refused() -> None:
    assert refusal(b'{"inputs": "broken \\ud800 emoji"}').status == 400


def test_deep_nesting_is_refused() -> None:
    assert refusal(b'{"inputs": "a", "more": ' + b"[" * 100_000).status == 422


@pytest.mark.parametrize("inputs", ["", "   ", "\n\t", [["a"], [""]]])
def test_empty_text_is_400(inputs: Any) -> None:
    problem = refusal(body({"inputs": inputs}))
    assert (problem.status, problem.error_type) == (400, "Empty")


def test_a_batch_has_a_limit() -> None:
    assert len(parse_predict(body({"inputs": [["a"]] * MAX_BATCH_TEXTS})).texts) == MAX_BATCH_TEXTS
    problem = refusal(body({"inputs": [["a"]] * (MAX_BATCH_TEXTS + 1)}))
    assert problem.status == 422
    assert f"batch size {MAX_BATCH_TEXTS + 1}" in problem.message


@given(ANY_JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    for data in (body(document), body({"inputs": document})):
        assert status_of(data) in (200, 400, 422)
        with pytest.raises(Refused):
            parse_feedback(data, LABELS)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert status_of(data) in (200, 400, 422)


@given(st.lists(TEXT, min_size=1, max_size=MAX_BATCH_TEXTS))
def test_texts_come_through_unchanged(texts: list[str]) -> None:
    encoded = msgspec.json.encode({"inputs": [[text] for text in texts]})
    assert parse_predict(encoded).texts == tuple(texts)


def test_answers_are_sorted_and_nested_only_for_a_batch() -> None:
    answers = [scored([-1.0, 2.0])]
    single = PredictRequest(("t",), False, False, False)
    flat = json.loads(encode_predictions(answers, LABELS, single))
    assert [row["label"] for row in flat] == ["delivery", "billing"]
    assert sum(row["score"] for row in flat) == pytest.approx(1.0)
    batch = PredictRequest(("t",), True, False, False)
    assert json.loads(encode_predictions(answers, LABELS, batch)) == [flat]


def test_raw_scores_are_the_logits() -> None:
    request = PredictRequest(("t",), False, False, True)
    rows = json.loads(encode_predictions([scored([-1.5, 2.25])], LABELS, request))
    assert rows == [{"score": 2.25, "label": "delivery"}, {"score": -1.5, "label": "billing"}]


def test_feedback_is_read() -> None:
    row = parse_feedback(body({"id": "7", "text": "hello", "label": "billing"}), LABELS)
    assert (row.id, row.text, row.label) == ("7", "hello", "billing")


def test_an_unknown_label_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused) as caught:
        parse_feedback(body({"id": "7", "text": "hello", "label": "biling"}), LABELS)
    assert caught.value.status == 422
    assert "billing, delivery" in caught.value.message


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"id": "7", "text": "hello"}, 422),
        ({"id": 7, "text": "hello", "label": "billing"}, 422),
        ({"id": "7", "text": "hello", "label": "billing", "labl": "x"}, 422),
        ({"id": "", "text": "hello", "label": "billing"}, 400),
        ({"id": "7", "text": " ", "label": "billing"}, 400),
    ],
)
def test_wrong_feedback_is_refused(document: Any, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_feedback(body(document), LABELS)
    assert caught.value.status == status

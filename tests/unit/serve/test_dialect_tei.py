"""The shapes of text-embeddings-inference."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.records import Manifest
from edgeloop.runtime import RowOutput
from serve.dialects.dialect import MAX_BATCH_TEXTS, TextRequest
from serve.dialects.tei import (
    encode_embeddings,
    encode_predictions,
    parse_embed,
    parse_predict,
)
from serve.jobs import Reader, Scored
from serve.refused import Refused
from tests import tiny

LABELS = ("billing", "delivery")
SINGLE = tiny.make_manifest(labels=LABELS)
PAIRS = tiny.make_manifest(labels=LABELS, text_pair=True)
MULTI = tiny.make_manifest("multi-label-classification", LABELS)
TAGGER = tiny.make_manifest("token-classification", LABELS)
EMBEDDER = tiny.make_manifest("text-embedding", ())
TEXT = st.text().filter(lambda text: text.strip() and "\0" not in text)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def refusal(data: bytes) -> Refused:
    with pytest.raises(Refused) as caught:
        parse_predict(data, SINGLE)
    return caught.value


def status_of(data: bytes) -> int:
    """The status that a body leads to; anything but a refusal comes through."""
    try:
        request = parse_predict(data, SINGLE)
    except Refused as problem:
        json.loads(problem.body())
        return problem.status
    assert all(isinstance(text, str) and text.strip() for text in request.texts)
    return 200


def scored(logits: Any, manifest: Manifest = SINGLE, text: str = "t") -> Scored:
    """An answer of a model with these logits; a tagger's tokens are single characters."""
    values = np.array(logits, dtype=np.float32)
    offsets = tuple((i, i + 1) for i in range(len(text)))
    output = RowOutput(values, np.array([0.6, 0.8], np.float32), offsets)
    answer, probabilities, abstained = Reader(manifest.task, manifest.labels).read(output)
    return Scored(text, 3, output, answer, probabilities, abstained, 0.0, 0.0)


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
    request = parse_predict(body({"inputs": inputs}), SINGLE)
    assert (request.texts, request.batched) == (texts, batched)


def test_options_default_to_off_and_null_means_default() -> None:
    for document in ({"inputs": "a"}, {"inputs": "a", "truncate": None, "raw_scores": None}):
        request = parse_predict(body(document), SINGLE)
        assert (request.truncate, request.raw_scores) == (False, False)
    on = parse_predict(body({"inputs": "a", "truncate": True, "raw_scores": True}), SINGLE)
    assert (on.truncate, on.raw_scores) == (True, True)


def test_unknown_fields_are_ignored_as_tei_does() -> None:
    unknown = body({"inputs": "a", "parameters": {"top_k": 1}})
    assert parse_predict(unknown, SINGLE).texts == ("a",)


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
    most = parse_predict(body({"inputs": [["a"]] * MAX_BATCH_TEXTS}), SINGLE)
    assert len(most.texts) == MAX_BATCH_TEXTS
    problem = refusal(body({"inputs": [["a"]] * (MAX_BATCH_TEXTS + 1)}))
    assert problem.status == 422
    assert f"batch size {MAX_BATCH_TEXTS + 1}" in problem.message


@given(ANY_JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    for data in (body(document), body({"inputs": document})):
        assert status_of(data) in (200, 400, 422)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    assert status_of(data) in (200, 400, 422)


@given(st.lists(TEXT, min_size=1, max_size=MAX_BATCH_TEXTS))
def test_texts_come_through_unchanged(texts: list[str]) -> None:
    encoded = msgspec.json.encode({"inputs": [[text] for text in texts]})
    assert parse_predict(encoded, SINGLE).texts == tuple(texts)


def test_answers_are_sorted_and_nested_only_for_a_batch() -> None:
    answers = [scored([-1.0, 2.0])]
    single = TextRequest(("t",), False, False, False)
    flat = json.loads(encode_predictions(answers, SINGLE, single))
    assert [row["label"] for row in flat] == ["delivery", "billing"]
    assert sum(row["score"] for row in flat) == pytest.approx(1.0)
    batch = TextRequest(("t",), True, False, False)
    assert json.loads(encode_predictions(answers, SINGLE, batch)) == [flat]


def test_raw_scores_are_the_logits() -> None:
    request = TextRequest(("t",), False, False, True)
    rows = json.loads(encode_predictions([scored([-1.5, 2.25])], SINGLE, request))
    assert rows == [{"score": 2.25, "label": "delivery"}, {"score": -1.5, "label": "billing"}]


# -- the other tasks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "texts", "batched"),
    [
        (["a", "b"], (("a", "b"),), False),
        ([["a", "b"], ["c", "d"]], (("a", "b"), ("c", "d")), True),
        ([["a", "b"], ["c"]], (("a", "b"), "c"), True),
        ("a", ("a",), False),
    ],
)
def test_a_model_of_pairs_takes_pairs_and_texts(inputs: Any, texts: Any, batched: bool) -> None:
    request = parse_predict(body({"inputs": inputs}), PAIRS)
    assert (request.texts, request.batched) == (texts, batched)


@pytest.mark.parametrize("inputs", [["a", " "], [["a", ""]], ["", "b"]])
def test_both_texts_of_a_pair_have_words(inputs: Any) -> None:
    with pytest.raises(Refused) as caught:
        parse_predict(body({"inputs": inputs}), PAIRS)
    assert (caught.value.status, caught.value.error_type) == (400, "Empty")


@pytest.mark.parametrize(
    "inputs", [["a", "b", "c"], [["a", "b", "c"]], [[["a", "b"]]], ["a", ["b"]]]
)
def test_more_than_two_texts_are_no_pair(inputs: Any) -> None:
    with pytest.raises(Refused) as caught:
        parse_predict(body({"inputs": inputs}), PAIRS)
    assert caught.value.status == 422


def test_several_labels_each_have_a_probability_of_their_own() -> None:
    request = TextRequest(("t",), False, False)
    rows = json.loads(encode_predictions([scored([-1.0, 2.0], MULTI)], MULTI, request))
    assert [row["label"] for row in rows] == ["delivery", "billing"]
    assert rows[0]["score"] == pytest.approx(1.0 / (1.0 + np.exp(-2.0)))
    assert rows[1]["score"] == pytest.approx(1.0 / (1.0 + np.exp(1.0)))


def test_entities_have_hugging_faces_shape() -> None:
    text = "no tax!"
    logits = np.zeros((len(text), 5))
    logits[:3, 0] = logits[6, 0] = 9.0  # outside
    logits[3, 1], logits[4:6, 2] = 9.0, 9.0  # B-billing, I-billing, I-billing
    answer = scored(logits, TAGGER, text)
    rows = json.loads(encode_predictions([answer], TAGGER, TextRequest((text,), False, False)))
    score = rows[0].pop("score")
    assert rows == [{"entity_group": "billing", "word": "tax", "start": 3, "end": 6}]
    assert 0.99 < score < 1.0


def test_a_text_without_entities_is_answered_with_an_empty_list() -> None:
    logits = np.zeros((1, 5))
    logits[:, 0] = 9.0
    request = TextRequest(("t",), True, False)
    assert json.loads(encode_predictions([scored(logits, TAGGER)], TAGGER, request)) == [[]]


@pytest.mark.parametrize("inputs", ["a", ["a"], ["a", "b"]])
def test_vectors_come_as_a_list_of_lists(inputs: Any) -> None:
    request = parse_embed(body({"inputs": inputs}), EMBEDDER)
    assert request.texts == tuple([inputs] if isinstance(inputs, str) else inputs)
    answers = [scored([], EMBEDDER) for _ in request.texts]
    found = json.loads(encode_embeddings(answers))
    assert found == [pytest.approx([0.6, 0.8])] * len(request.texts)


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"inputs": []}, 422),
        ({"inputs": [["a"]]}, 422),
        ({"inputs": ""}, 400),
        ({"inputs": ["a", " "]}, 400),
        ({"inputs": ["a"] * (MAX_BATCH_TEXTS + 1)}, 422),
        ({"inputs": "a", "normalize": False}, 422),
        ({"inputs": "a", "prompt_name": "query"}, 422),
        ({"inputs": "a", "dimensions": 8}, 422),
        ({"inputs": "a", "truncation_direction": "Left"}, 422),
    ],
)
def test_what_embed_does_not_take_is_refused(document: Any, status: int) -> None:
    with pytest.raises(Refused) as caught:
        parse_embed(body(document), EMBEDDER)
    assert caught.value.status == status


def test_each_kind_of_model_names_its_own_route() -> None:
    with pytest.raises(Refused, match="use POST /embed") as caught:
        parse_predict(body({"inputs": "a"}), EMBEDDER)
    assert caught.value.status == 422
    for manifest in (SINGLE, MULTI, TAGGER):
        with pytest.raises(Refused, match="/predict") as caught:
            parse_embed(body({"inputs": "a"}), manifest)
        assert caught.value.status == 422


@given(ANY_JSON)
def test_any_json_is_embedded_or_refused(document: Any) -> None:
    for data in (body(document), body({"inputs": document})):
        try:
            assert parse_embed(data, EMBEDDER).texts
        except Refused as problem:
            json.loads(problem.body())

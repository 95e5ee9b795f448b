"""The shapes of Hugging Face's InferenceClient."""

import json
from functools import partial
from typing import Any

import pytest

from edgeloop.bundle import Bundle
from serve.dialects.hf import HF, HfRequest
from tests.asked import EMBEDDER, MULTI, PAIRS, SINGLE, TAGGER, parse, refusal, scored


def told(bundle: Bundle, document: Any, *answers: Any) -> Any:
    request = parse(HF, document, bundle)
    return json.loads(HF.encode(answers, bundle, request).body)


def test_a_list_is_a_batch_and_a_pair_has_names() -> None:
    assert parse(HF, {"inputs": ["a", "b"]}).texts == ("a", "b")
    pair = {"text": "a", "text_pair": "b"}
    assert parse(HF, {"inputs": [pair, "c"]}, PAIRS).texts == (("a", "b"), "c")
    assert parse(HF, {"inputs": {"text": "a"}}).texts == ("a",)
    assert "pair" in refusal(lambda: parse(HF, {"inputs": pair})).message


def test_a_classifier_nests_whether_it_got_one_text_or_more() -> None:
    one = told(SINGLE, {"inputs": "a"}, scored([1.0, 2.0]))
    assert [[row["label"] for row in rows] for rows in one] == [["delivery", "billing"]]
    two = told(SINGLE, {"inputs": ["a", "b"]}, scored([1.0, 2.0]), scored([3.0, 2.0]))
    assert [rows[0]["label"] for rows in two] == ["delivery", "billing"]


@pytest.mark.parametrize(
    ("function", "expected"),
    [(None, 0.8807970779778823), ("softmax", 0.8807970779778823), ("none", 2.0), ("sigmoid", 0.88)],
)
def test_the_function_and_top_k_are_honoured(function: str | None, expected: float) -> None:
    parameters = {"function_to_apply": function, "top_k": 1}
    ((best,),) = told(SINGLE, {"inputs": "a", "parameters": parameters}, scored([0.0, 2.0]))
    assert best["score"] == pytest.approx(expected, abs=1e-2)
    assert best["label"] == "delivery"


def test_several_labels_have_a_sigmoid_each() -> None:
    (rows,) = told(MULTI, {"inputs": "a"}, scored([0.0, 0.0], MULTI))
    assert [row["score"] for row in rows] == [0.5, 0.5]
    softmax = {"inputs": "a", "parameters": {"function_to_apply": "softmax"}}
    (rows,) = told(MULTI, softmax, scored([5.0, 5.0], MULTI))
    assert [row["score"] for row in rows] == [0.5, 0.5]


def test_entities_are_flat_for_one_text_and_may_be_left_out() -> None:
    answer = scored([[0, 9, 0, 0, 0], [0, 0, 0, 9, 0]], TAGGER, "ab")
    flat = told(TAGGER, {"inputs": "ab"}, answer)
    assert [(e["entity_group"], e["word"]) for e in flat] == [("billing", "a"), ("delivery", "b")]
    assert told(TAGGER, {"inputs": ["ab"]}, answer) == [flat]
    without = {"aggregation_strategy": "simple", "ignore_labels": ["billing"]}
    assert told(TAGGER, {"inputs": "ab", "parameters": without}, answer) == flat[1:]


def test_vectors_come_as_rows() -> None:
    rows = told(EMBEDDER, {"inputs": "a", "normalize": True}, scored([], EMBEDDER))
    assert rows == [pytest.approx([0.6, 0.8])]


def test_what_is_too_long_is_cut_where_either_place_says_so() -> None:
    assert parse(HF, {"inputs": "a", "parameters": {"truncate": True}}).truncate
    assert parse(HF, {"inputs": "a", "truncate": True}, EMBEDDER).truncate
    assert not parse(HF, {"inputs": "a"}).truncate


@pytest.mark.parametrize(
    ("bundle", "changes", "says"),
    [
        (SINGLE, {"parameters": {"top_k": 0}}, "top_k"),
        (SINGLE, {"parameters": {"function_to_apply": "tanh"}}, "tanh"),
        (SINGLE, {"parameters": {"stride": 3}}, "stride"),
        (SINGLE, {"parameters": {"ignore_labels": ["O"]}}, "ignore_labels"),
        (SINGLE, {"normalize": True}, "normalize"),
        (SINGLE, {"options": {}}, "options"),
        (TAGGER, {"parameters": {"top_k": 1}}, "top_k"),
        (TAGGER, {"parameters": {"aggregation_strategy": "none"}}, "aggregation_strategy"),
        (EMBEDDER, {"normalize": False}, "normalize"),
        (EMBEDDER, {"prompt_name": "query"}, "prompt_name"),
        (EMBEDDER, {"dimensions": 2}, "dimensions"),
        (EMBEDDER, {"encoding_format": "base64"}, "base64"),
        (EMBEDDER, {"truncation_direction": "left"}, "left"),
    ],
)
def test_what_has_no_effect_is_refused(bundle: Bundle, changes: Any, says: str) -> None:
    problem = refusal(lambda: parse(HF, {"inputs": "a", **changes}, bundle))
    assert problem.status == 422
    assert says in problem.message


def test_only_the_served_model_answers_by_its_name() -> None:
    for name in ("tiny", SINGLE.digest, SINGLE.digest[:12]):
        assert isinstance(parse(HF, {"inputs": "a"}, model=name), HfRequest)
    for name in ("tin", SINGLE.digest[:11], ""):
        problem = refusal(partial(parse, HF, {"inputs": "a"}, model=name))
        assert problem.status == 404

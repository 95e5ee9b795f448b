"""The shape of /feedback."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.feedback import parse_feedback
from serve.refused import Refused
from tests import tiny

LABELS = ("billing", "delivery")
SINGLE = tiny.make_manifest(labels=LABELS)
MULTI = tiny.make_manifest("multi-label-classification", LABELS)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_feedback_is_read() -> None:
    row = parse_feedback(body({"id": "7", "text": "hello", "label": "billing"}), SINGLE)
    assert (row.id, row.text, row.label) == ("7", "hello", "billing")


def test_an_unknown_label_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Refused) as caught:
        parse_feedback(body({"id": "7", "text": "hello", "label": "biling"}), SINGLE)
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
        parse_feedback(body(document), SINGLE)
    assert caught.value.status == status


@given(ANY_JSON)
def test_any_json_is_refused(document: Any) -> None:
    with pytest.raises(Refused):
        parse_feedback(body(document), SINGLE)


@pytest.mark.parametrize(
    ("given_label", "stored"),
    [
        ("billing", "billing"),
        ("delivery|billing", "billing|delivery"),
        ("billing|billing", "billing"),
        ("", ""),
    ],
)
def test_several_labels_are_stored_in_one_order(given_label: str, stored: str) -> None:
    row = {"id": "7", "text": "hello", "label": given_label}
    assert parse_feedback(body(row), MULTI).label == stored


def test_one_unknown_label_of_several_is_named() -> None:
    with pytest.raises(Refused, match="label 'sales' is unknown"):
        parse_feedback(body({"id": "7", "text": "hello", "label": "billing|sales"}), MULTI)


def test_a_bar_is_part_of_a_single_label() -> None:
    with pytest.raises(Refused, match=r"label 'billing\|delivery' is unknown"):
        parse_feedback(body({"id": "7", "text": "hello", "label": "billing|delivery"}), SINGLE)


@pytest.mark.parametrize(
    ("task", "text_pair", "said"),
    [
        ("token-classification", False, "task is token-classification"),
        ("text-embedding", False, "task is text-embedding"),
        ("text-classification", True, "reads pairs"),
    ],
)
def test_a_model_whose_rows_are_no_text_with_a_label_takes_none(
    task: str, text_pair: bool, said: str
) -> None:
    manifest = tiny.make_manifest(task, LABELS, text_pair)
    with pytest.raises(Refused, match=said) as caught:
        parse_feedback(body({"id": "7", "text": "hello", "label": "billing"}), manifest)
    assert caught.value.status == 422
    assert "data.files" in caught.value.message


def captured(**changes: Any) -> bytes:
    return body({"id": "7", "text": "hello", "label": "billing", **changes})


def test_how_a_captured_row_was_drawn_is_read() -> None:
    row = parse_feedback(captured(inclusion_probability=0.2, rule="low_confidence"), SINGLE)
    assert (row.inclusion_probability, row.rule) == (0.2, "low_confidence")
    assert parse_feedback(captured(inclusion_probability=1), SINGLE).rule is None
    plain = parse_feedback(captured(), SINGLE)
    assert (plain.inclusion_probability, plain.rule) == (None, None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inclusion_probability": 0}, "above 0"),
        ({"inclusion_probability": 1.01}, "at most 1"),
        ({"inclusion_probability": "half"}, "inclusion_probability"),
        ({"rule": "uniform"}, "beside `inclusion_probability`"),
        ({"rule": "at whim", "inclusion_probability": 0.5}, "rule"),
    ],
)
def test_a_draw_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_feedback(captured(**changes), SINGLE)
    assert caught.value.status == 422
    assert said in caught.value.message

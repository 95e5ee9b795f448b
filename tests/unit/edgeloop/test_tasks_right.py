"""What a task's model reads of rows, and which of them it answers rightly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeloop import tasks
from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS, nearest_is_own, tag_names

LABELS = ("a", "b")
NO_VECTOR = np.zeros(2, np.float32)


def output(logits: object, tokens: int = 0) -> RowOutput:
    offsets = tuple((i, i + 1) for i in range(tokens))
    return RowOutput(np.array(logits, np.float32), NO_VECTOR, offsets)


def vectors(*values: list[float]) -> list[RowOutput]:
    none = np.zeros(0, np.float32)
    return [RowOutput(none, np.array(v, np.float32) / np.linalg.norm(v)) for v in values]


def test_a_text_or_a_pair_is_read_as_it_is() -> None:
    rows = [Row("1", "x", ("a",)), Row("2", "y", ("a",), text_pair="z")]
    for name in ("text-classification", "multi-label-classification", "token-classification"):
        assert TASKS[name].inputs(rows) == ["x", ("y", "z")]


def test_of_a_row_of_vectors_both_texts_are_read_apart() -> None:
    rows = [Row("1", "x", text_pair="u"), Row("2", "y", text_pair="v")]
    assert TASKS["text-embedding"].inputs(rows) == ["x", "y", "u", "v"]


def test_one_label_is_right_by_its_name() -> None:
    rows = [Row("1", "x", ("b",)), Row("2", "y", ("a",)), Row("3", "z", ("unknown",))]
    outputs = [output([0.0, 1.0]), output([0.0, 1.0]), output([1.0, 0.0])]
    right = TASKS["text-classification"].right(outputs, rows, LABELS)
    assert right.tolist() == [True, False, False]
    assert right.dtype == bool


def test_several_labels_are_right_all_together() -> None:
    rows = [Row("1", "x", ("b", "a")), Row("2", "y", ("a",)), Row("3", "z", ())]
    outputs = [output([3.0, 1.0]), output([3.0, 1.0]), output([-1.0, -1.0])]
    right = TASKS["multi-label-classification"].right(outputs, rows, LABELS)
    assert right.tolist() == [True, False, True]


def test_entities_are_right_to_the_character() -> None:
    tags = np.zeros((3, 5))
    tags[0, 1] = tags[1, 2] = tags[2, 0] = 5.0  # B-a I-a O
    rows = [
        Row("1", "xyz", spans=(Span(0, 2, "a"),)),
        Row("2", "xyz", spans=(Span(0, 1, "a"),)),
        Row("3", "xyz", spans=(Span(0, 2, "b"),)),
        Row("4", "xyz"),
    ]
    right = TASKS["token-classification"].right([output(tags, 3)] * 4, rows, LABELS)
    assert right.tolist() == [True, False, False, False]


def test_tag_names_are_in_the_order_of_the_columns() -> None:
    assert tag_names(LABELS) == ["O", "B-a", "I-a", "B-b", "I-b"]
    assert len(tag_names(LABELS)) == TASKS["token-classification"].width(LABELS)


@pytest.mark.parametrize("name", TASKS)
def test_no_row_is_no_answer(name: str) -> None:
    assert TASKS[name].right([], [], LABELS).shape == (0,)
    assert TASKS[name].inputs([]) == []


@pytest.mark.parametrize(
    ("name", "word", "labels"),
    [
        ("text-classification", "a", ("a",)),
        ("text-classification", "a|b", ("a|b",)),
        ("multi-label-classification", "a|b", ("a", "b")),
        ("multi-label-classification", "", ()),
        ("token-classification", "a", None),
        ("text-embedding", "a", None),
    ],
)
def test_a_word_says_a_rows_labels_or_cannot(
    name: str, word: str, labels: tuple[str, ...] | None
) -> None:
    assert TASKS[name].read_label(word) == labels
    if labels is not None:
        assert Row("1", "x", labels).label == word


# -- vectors -----------------------------------------------------------------------------------


def embedded(texts: list[str], outputs: list[RowOutput]) -> list[bool]:
    rows = [Row(str(i), f"anchor {i}", text_pair=text) for i, text in enumerate(texts)]
    found: list[bool] = TASKS["text-embedding"].right(outputs, rows, ()).tolist()
    return found


def test_a_row_is_right_where_its_own_text_is_the_nearest() -> None:
    anchors = vectors([1.0, 0.0], [0.0, 1.0], [1.0, 0.2])
    positives = vectors([1.0, 0.1], [0.0, 1.0], [-1.0, 0.0])
    assert embedded(["u", "v", "w"], [*anchors, *positives]) == [True, True, False]


def test_rows_that_share_a_text_are_no_rivals() -> None:
    anchors = vectors([1.0, 0.0], [1.0, 0.1], [0.0, 1.0])
    positives = vectors([1.0, 0.0], [1.0, 0.0], [0.0, 1.0])
    assert embedded(["u", "u", "v"], [*anchors, *positives]) == [True, True, True]


def test_a_model_that_gives_every_text_one_vector_is_always_wrong() -> None:
    same = vectors(*[[1.0, 0.0]] * 6)
    assert embedded(["u", "v", "w"], same) == [False] * 3


def plainly(
    anchors: NDArray[np.float32], positives: NDArray[np.float32], texts: NDArray[np.int64]
) -> list[bool]:
    """Row by row, as the definition says it."""
    right = []
    for i, anchor in enumerate(anchors):
        others = [float(anchor @ p) for p, t in zip(positives, texts, strict=True) if t != texts[i]]
        right.append(all(float(anchor @ positives[i]) > other for other in others))
    return right


@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 7))
def test_blocks_change_nothing(seed: int, rows: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    anchors, positives = rng.integers(-3, 4, (2, rows, 5)).astype(np.float32)
    texts = rng.integers(0, max(rows // 2, 1), rows)
    positives = positives[texts]  # one text, one vector
    whole = nearest_is_own(anchors, positives, texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "BLOCK_ROWS", block)
        assert nearest_is_own(anchors, positives, texts).tolist() == whole.tolist()
    assert whole.tolist() == plainly(anchors, positives, texts)

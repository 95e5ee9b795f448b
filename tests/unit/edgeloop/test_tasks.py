"""What a model's numbers mean, per task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS, Answer, entity_runs, is_right, sigmoid

LABELS = ("city", "day")
EMBEDDING = np.ones(2, dtype=np.float32)
LOGIT = st.floats(-50, 50, width=32)


def output(logits: object, offsets: tuple[tuple[int, int], ...] = ()) -> RowOutput:
    return RowOutput(np.array(logits, dtype=np.float32), EMBEDDING, offsets)


def test_every_task_of_the_recipe_has_its_semantics() -> None:
    assert list(TASKS) == list(Recipe.model_fields["task"].annotation.__args__)  # type: ignore[union-attr]


def test_the_largest_logit_is_the_class() -> None:
    answer = TASKS["text-classification"].answer(output([0.0, 2.0]), LABELS)
    assert answer.labels == ("day",)
    assert answer.score == pytest.approx(1 / (1 + np.exp(-2)))
    assert answer.label == "day"


def test_several_labels_or_none_can_be_said() -> None:
    task = TASKS["multi-label-classification"]
    assert task.answer(output([1.0, 2.0]), LABELS).labels == LABELS
    nothing = task.answer(output([-3.0, -3.0]), LABELS)
    assert nothing.labels == ()
    assert nothing.score == pytest.approx(sigmoid(np.array([3.0], dtype=np.float32))[0] ** 2)


def test_tokens_become_spans_of_characters() -> None:
    tags = {"O": 0, "B-city": 1, "I-city": 2, "B-day": 3}
    said = ["O", "B-city", "I-city", "O", "B-day", "O"]
    logits = np.full((6, 5), -5.0)
    for token, tag in enumerate(said):
        logits[token, tags[tag]] = 5.0
    offsets = ((0, 0), (2, 5), (6, 10), (11, 13), (14, 20), (0, 0))
    answer = TASKS["token-classification"].answer(output(logits, offsets), LABELS)
    assert answer.spans == (Span(2, 10, "city"), Span(14, 20, "day"))
    assert answer.label == "2:10:city|14:20:day"
    assert is_right(answer, TASKS["token-classification"].truth(Row("a", "t", spans=answer.spans)))


def test_special_tokens_and_a_second_text_are_in_no_span() -> None:
    logits = np.full((3, 5), -5.0)
    logits[:, 1] = 5.0  # every token begins a city
    answer = TASKS["token-classification"].answer(output(logits, ((0, 0), (0, 3), (0, 0))), LABELS)
    assert answer.spans == (Span(0, 3, "city"),)


def test_a_row_of_special_tokens_alone_has_no_entity() -> None:
    task = TASKS["token-classification"]
    empty = output(np.zeros((2, 5)), ((0, 0), (0, 0)))
    assert task.answer(empty, LABELS).spans == ()
    assert task.probabilities(empty, LABELS).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("tags", "runs"),
    [
        ([1, 2, 0, 3], [(0, 1, 0), (3, 3, 1)]),
        ([2, 2], [(0, 1, 0)]),  # an I that follows nothing begins an entity
        ([1, 4], [(0, 0, 0), (1, 1, 1)]),  # of another type: another entity
        ([1, 1], [(0, 0, 0), (1, 1, 0)]),
        ([0, 0], []),
    ],
)
def test_bio_is_read_as_conlleval_reads_it(
    tags: list[int], runs: list[tuple[int, int, int]]
) -> None:
    assert entity_runs(tags, [(i, i + 1) for i in range(len(tags))]) == runs


@given(logits=arrays(np.float32, 3, elements=LOGIT))
@pytest.mark.parametrize("name", ["text-classification", "multi-label-classification"])
def test_probabilities_are_a_distribution(name: str, logits: np.ndarray) -> None:
    task, labels = TASKS[name], ("a", "b", "c")
    values = task.probabilities(output(logits), labels)
    assert values.shape == (len(task.class_names(labels)),)
    assert (values >= 0).all()
    assert values.sum() == pytest.approx(1.0)


@given(logits=arrays(np.float32, (4, 5), elements=LOGIT))
def test_a_taggers_probabilities_are_a_distribution(logits: np.ndarray) -> None:
    task = TASKS["token-classification"]
    offsets = ((0, 0), (0, 1), (2, 3), (0, 0))
    values = task.probabilities(output(logits, offsets), LABELS)
    assert values.shape == (3,)
    assert values.sum() == pytest.approx(1.0)
    assert 0.0 <= task.answer(output(logits, offsets), LABELS).score <= 1.0


@given(logits=arrays(np.float32, 4, elements=st.floats(allow_nan=False, width=32)))
def test_a_sigmoid_never_overflows(logits: np.ndarray) -> None:
    values = sigmoid(logits)
    assert np.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()


def test_labels_are_those_of_the_rows_in_order() -> None:
    rows = [Row("1", "t", ("b", "a"), spans=(Span(0, 1, "day"),)), Row("2", "t", ("c",))]
    assert TASKS["multi-label-classification"].labels(rows) == ("a", "b", "c")
    assert TASKS["token-classification"].labels(rows) == ("day",)
    assert TASKS["text-embedding"].labels(rows) == ()


def test_an_answer_is_right_only_as_a_whole() -> None:
    meant = Answer(labels=("a", "b"))
    assert is_right(Answer(labels=("b", "a")), meant)
    assert not is_right(Answer(labels=("a",)), meant)
    assert not is_right(Answer(spans=(Span(0, 2, "x"),)), Answer(spans=(Span(0, 3, "x"),)))

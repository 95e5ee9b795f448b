"""Figures of labels and spans agree with scikit-learn and seqeval on random answers."""

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score as seqeval_f1
from seqeval.metrics import precision_score as seqeval_precision
from seqeval.metrics import recall_score as seqeval_recall
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support
from sklearn import metrics

from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS, is_right
from finetune.evaluation.findings import judge
from finetune.evaluation.labels import confusion, judge_labels
from finetune.evaluation.spans import judge_spans

CLASSES = ["a", "b", "c", "d"]
TYPES = ("city", "name")
TAGS = ("O", "B-city", "I-city", "B-name", "I-name")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1))
def test_one_label_figures_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    truth, answer = zip(*pairs, strict=True)
    judged = judge_labels([(t,) for t in truth], [(a,) for a in answer], "accuracy")
    value = {name: measure.value for name, measure in judged.figures.items()}
    assert value["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answer))
    for average in ("macro", "micro"):
        expected = metrics.f1_score(truth, answer, average=average, zero_division=0.0)
        assert value[f"{average}_f1"] == pytest.approx(expected)
    expected = metrics.precision_recall_fscore_support(truth, answer, zero_division=0.0)
    found = [(c.precision, c.recall, c.f1, c.support) for c in judged.classes]
    assert np.array(found) == pytest.approx(np.array(expected).T)
    cells = {(c.truth, c.answer): c.rows for c in confusion(_each(truth), _each(answer))}
    matrix = metrics.confusion_matrix(truth, answer, labels=CLASSES)
    assert cells == {
        (CLASSES[i], CLASSES[j]): matrix[i, j]
        for i, j in zip(*np.nonzero(matrix), strict=True)
        if i != j
    }


def _each(labels: Sequence[str]) -> list[tuple[str, ...]]:
    return [(label,) for label in labels]


label_sets = st.lists(st.sampled_from(CLASSES), unique=True).map(tuple)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(label_sets, label_sets), min_size=1))
def test_many_label_figures_are_those_of_scikit_learn(
    pairs: list[tuple[tuple[str, ...], tuple[str, ...]]],
) -> None:
    truth, answer = (list(side) for side in zip(*pairs, strict=True))
    judged = judge_labels(truth, answer, "exact_match")
    there, said = (
        np.array([[c in labels for c in CLASSES] for labels in side]) for side in (truth, answer)
    )
    value = {name: measure.value for name, measure in judged.figures.items()}
    assert value["exact_match"] == pytest.approx(metrics.accuracy_score(there, said))
    micro = metrics.f1_score(there, said, average="micro", zero_division=0.0)
    assert value["micro_f1"] == pytest.approx(micro)
    occur = (there | said).any(axis=0)
    each = metrics.f1_score(there, said, average=None, zero_division=0.0)
    assert value["macro_f1"] == pytest.approx(each[occur].mean() if occur.any() else 0.0)


def test_the_most_frequent_confusion_comes_first() -> None:
    cells = confusion(_each("aaabb"), _each("bbcab"))
    assert [(c.truth, c.answer, c.rows) for c in cells] == [
        ("a", "b", 2),
        ("a", "c", 1),
        ("b", "a", 1),
    ]


# -- spans -------------------------------------------------------------------------------------

sequences = st.lists(st.sampled_from(TAGS), min_size=1, max_size=12)
corpora = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12),
    min_size=1,
    max_size=8,
)


def _row(tags: Sequence[str], number: int) -> Row:
    """One letter and a blank per tag; spans as seqeval reads them."""
    spans = tuple(
        Span(2 * first, 2 * last + 1, kind) for kind, first, last in get_entities(list(tags))
    )
    return Row(f"r{number}", " ".join("x" * len(tags)), spans=spans)


def _output(tags: Sequence[str]) -> RowOutput:
    """What a tagger that says these tags puts out, between two special tokens."""
    numbers = [0, *(TAGS.index(tag) for tag in tags), 0]
    offsets = ((0, 0), *((2 * i, 2 * i + 1) for i in range(len(tags))), (0, 0))
    return RowOutput(
        np.eye(len(TAGS), dtype=np.float32)[numbers] * 9.0, np.zeros(2, np.float32), offsets
    )


@settings(max_examples=150, deadline=None)
@given(corpora)
def test_span_figures_are_those_of_seqeval(corpus: list[list[tuple[str, str]]]) -> None:
    truths = [[there for there, _ in row] for row in corpus]
    answers = [[said for _, said in row] for row in corpus]
    rows = [_row(tags, i) for i, tags in enumerate(truths)]
    task = TASKS["token-classification"]
    found = [task.answer(_output(tags), TYPES) for tags in answers]
    judged = judge("token-classification", rows, found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where there is no span at all
        expected = {
            "span_f1": seqeval_f1(truths, answers),
            "span_precision": seqeval_precision(truths, answers),
            "span_recall": seqeval_recall(truths, answers),
        }
        each = precision_recall_fscore_support(truths, answers, average=None)
    for name, value in expected.items():
        assert judged.figures[name].value == pytest.approx(value)
    by_type = [(c.precision, c.recall, c.f1, c.support) for c in judged.classes]
    assert np.array(by_type).reshape(-1, 4) == pytest.approx(np.array(each).T.reshape(-1, 4))
    right = [is_right(a, task.truth(row)) for a, row in zip(found, rows, strict=True)]
    assert judged.right.tolist() == right


def test_the_ends_alone_count_for_the_boundary_figure() -> None:
    judged = judge_spans([{Span(0, 4, "name"), Span(6, 9, "city")}], [{Span(0, 4, "city")}])
    assert judged.figures["span_f1"].value == 0.0
    assert judged.figures["boundary_f1"].value == pytest.approx(2 / 3)


def test_rows_without_spans_are_right_where_none_is_found() -> None:
    judged = judge_spans([set(), set()], [set(), {Span(0, 1, "name")}])
    assert judged.right.tolist() == [True, False]
    assert judged.figures["span_f1"].value == 0.0

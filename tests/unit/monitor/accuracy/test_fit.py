"""What the label-free estimates are made from."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeloop.errors import MonitorError
from monitor.accuracy.fit import (
    SCORE_OF,
    SCORES,
    AccuracyFit,
    ScoreName,
    atc_threshold,
    choose_score,
    fit_accuracy,
    from_document,
    max_probability,
    negative_entropy,
    platt,
)
from tests.classifiers import FLOOR, draw, softmax

scores = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1), unique=True)


@given(scores, st.data())
def test_as_many_rows_lie_below_the_threshold_as_were_wrong(
    values: np.ndarray, data: st.DataObject
) -> None:
    right = data.draw(hnp.arrays(bool, len(values)))
    threshold = atc_threshold(values, right)
    assert math.isfinite(threshold)
    assert np.sum(values < threshold) == np.sum(~right)


def test_the_confidence_is_as_often_right_as_it_says() -> None:
    fit = fit_accuracy(*draw(4_000, np.random.default_rng(0)), FLOOR)
    probabilities, right = draw(20_000, np.random.default_rng(1))
    confidence = np.array([fit.confidence(p) for p in probabilities])
    for low, high in ((0.3, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)):
        there = (confidence >= low) & (confidence < high)
        assert there.sum() > 300
        assert abs(confidence[there].mean() - right[there].mean()) < 0.04, (low, high)
    top = probabilities.max(axis=1)
    assert abs(top.mean() - right.mean()) > 0.03, "uncalibrated, it is not"


@pytest.mark.parametrize("score", SCORES)
def test_many_answers_are_judged_as_each_is(score: ScoreName) -> None:
    known = fit_accuracy(*draw(500, np.random.default_rng(5)), FLOOR)
    probabilities, right = draw(300, np.random.default_rng(6))
    threshold = atc_threshold(SCORE_OF[score](probabilities), right)
    fit = replace(known, score=score, threshold=threshold)
    alone = [fit.confidence(row) for row in probabilities]
    assert fit.confidences(probabilities) == pytest.approx(alone, abs=1e-12)
    assert fit.are_above(probabilities).tolist() == [fit.is_above(row) for row in probabilities]


def test_an_honest_confidence_is_left_alone() -> None:
    probabilities, right = draw(20_000, np.random.default_rng(2), overconfidence=1.0)
    slope, intercept = platt(probabilities.max(axis=1), right)
    assert slope == pytest.approx(1.0, abs=0.15)
    assert intercept == pytest.approx(0.0, abs=0.25)


@pytest.mark.parametrize("right", [True, False])
def test_rows_that_are_all_right_or_all_wrong_leave_no_certainty(right: bool) -> None:
    probabilities, _ = draw(60, np.random.default_rng(3))
    fit = fit_accuracy(probabilities, np.full(60, right), FLOOR)
    for row in probabilities:
        assert 0.0 < fit.confidence(row) < 1.0
        assert fit.is_above(row) == right
    assert abs(fit.confidence(probabilities[0]) - float(right)) < 0.2


def test_a_confidence_that_is_higher_where_it_is_wrong_is_not_believed() -> None:
    rng = np.random.default_rng(4)
    top = rng.uniform(0.3, 0.99, size=400)
    slope, intercept = platt(top, rng.random(400) > top)
    assert slope == 0.0
    assert 0.2 < 1.0 / (1.0 + math.exp(-intercept)) < 0.5


@pytest.mark.parametrize("rows", [1, 2, 3, 40])
@pytest.mark.parametrize("alike", [True, False])
def test_few_rows_and_rows_that_are_alike_can_be_fitted(rows: int, alike: bool) -> None:
    probabilities, right = draw(rows, np.random.default_rng(rows))
    if alike:
        probabilities = np.tile(probabilities[0], (rows, 1))
    fit = fit_accuracy(probabilities, right, FLOOR)
    assert from_document(json.loads(json.dumps(fit.to_document()))) == fit


def test_certain_and_impossible_answers_can_be_fitted() -> None:
    probabilities = np.tile(np.array([1.0, 0.0, 0.0]), (50, 1))
    fit = fit_accuracy(probabilities, np.arange(50) % 10 > 0, FLOOR)
    assert fit.confidence(probabilities[0]) == pytest.approx(0.9, abs=0.03)
    assert fit.is_above(probabilities[0])


def test_the_scores_are_the_textbooks() -> None:
    p = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])
    assert max_probability(p).tolist() == [0.5, 0.5, 1.0]
    assert negative_entropy(p) == pytest.approx([-math.log(2), -1.5 * math.log(2), 0.0])


def test_the_score_that_carries_over_to_other_classes_is_chosen() -> None:
    """Classes differ in how the rest of the probability is spread: where only the highest one tells
    right from wrong, a threshold on the entropy would be off by class, and the other way round."""
    rng = np.random.default_rng(6)
    rows, classes = 3_000, 8
    predicted = rng.integers(classes, size=rows)
    logits = np.zeros((rows, classes))
    top = rng.uniform(0.35, 0.99, size=rows)
    spread = np.where(predicted < 4, 50.0, 0.0)
    rest = np.exp(rng.normal(size=(rows, classes)) * 0.01)
    rest[np.arange(rows), (predicted + 1) % classes] += spread
    rest[np.arange(rows), predicted] = 0.0
    logits = rest / rest.sum(axis=1, keepdims=True) * (1.0 - top)[:, None]
    logits[np.arange(rows), predicted] = top
    right = top > 0.6
    assert choose_score(logits, right) == "max_probability"
    entropy = negative_entropy(logits)
    by_entropy = entropy > np.quantile(entropy, 0.4)
    assert choose_score(logits, by_entropy) == "negative_entropy"


def test_one_predicted_class_is_enough_to_choose() -> None:
    probabilities = softmax(np.random.default_rng(7).normal(size=(30, 2)) + np.array([9.0, 0.0]))
    assert choose_score(probabilities, np.arange(30) % 3 > 0) in SCORES
    assert set(SCORE_OF) == set(SCORES)


@pytest.mark.parametrize(
    ("probabilities", "right"),
    [
        (np.ones((0, 3)), np.ones(0, bool)),
        (np.ones((4, 3)), np.ones(5, bool)),
        (np.ones(4), np.ones(4, bool)),
    ],
)
def test_what_is_not_a_row_of_each_is_refused(probabilities: np.ndarray, right: np.ndarray) -> None:
    with pytest.raises(MonitorError, match="labelled rows"):
        fit_accuracy(probabilities, right, FLOOR)


@pytest.mark.parametrize(
    "change",
    [
        {"score": "vibes"},
        {"threshold": float("nan")},
        {"rows": 0},
        {"accuracy": 1.5},
        {"floor": 0.0},
        {"slope": "steep"},
        {"unknown": 1},
    ],
)
def test_figures_that_mean_nothing_are_refused(
    accuracy_fit: AccuracyFit, change: dict[str, object]
) -> None:
    with pytest.raises((ValueError, TypeError)):
        from_document({**accuracy_fit.to_document(), **change})


@given(st.lists(st.floats(-8, 8), min_size=6, max_size=6))
@settings(max_examples=50)
def test_a_surer_answer_is_never_less_confident(logits: list[float]) -> None:
    fit = replace(fit_of_fifty(), slope=1.3, intercept=-0.2)
    p = softmax(np.array([logits]))[0]
    surer = 0.5 * p + 0.5 * np.eye(6)[p.argmax()]
    assert fit.confidence(surer) >= fit.confidence(p)


def fit_of_fifty() -> AccuracyFit:
    return fit_accuracy(*draw(50, np.random.default_rng(8)), FLOOR)

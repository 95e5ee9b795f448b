"""Calibration errors and Brier scores are what they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from edgeloop.calibration import BINS, brier, calibrate, of_labels, of_spans
from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import Answer

LABELS = ("a", "b", "c")


def output(*logits: float) -> RowOutput:
    return RowOutput(np.array(logits, dtype=np.float32), np.zeros(2, np.float32))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200))
def test_every_decision_is_in_one_bin_of_about_equal_mass(
    decisions: list[tuple[float, bool]],
) -> None:
    sure, right = (np.array(column) for column in zip(*decisions, strict=True))
    found = calibrate(sure, right)
    assert found is not None
    sizes = [point.decisions for point in found.points]
    assert sum(sizes) == len(decisions)
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(BINS, len(decisions))
    gaps = [p.decisions * abs(p.confidence - p.accuracy) for p in found.points]
    assert found.ece == pytest.approx(sum(gaps) / len(decisions))
    assert abs(sure.mean() - right.mean()) <= found.ece + 1e-9
    assert sorted(p.confidence for p in found.points) == pytest.approx(
        [p.confidence for p in found.points]
    )


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_its_excess() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1.0, 40_000)
    fair = calibrate(sure, rng.random(40_000) < sure)
    boastful = calibrate(sure, rng.random(40_000) < sure - 0.1)
    assert fair is not None
    assert boastful is not None
    assert fair.ece < 0.01
    assert boastful.ece == pytest.approx(0.1, abs=0.01)


def test_no_decision_has_no_calibration() -> None:
    assert calibrate(np.zeros(0), np.zeros(0, dtype=bool)) is None
    assert of_spans([Row("1", "text")], [Answer()]) is None


def test_spans_are_decisions_of_their_own() -> None:
    row = Row("1", "anna oslo", spans=(Span(0, 4, "name"), Span(5, 9, "city")))
    answer = Answer(spans=(Span(0, 4, "name"), Span(5, 9, "name")), scores=(0.9, 0.6))
    found = of_spans([row], [answer])
    assert found is not None
    assert [(p.confidence, p.accuracy) for p in found.points] == [(0.6, 0.0), (0.9, 1.0)]


def test_each_label_is_a_decision() -> None:
    found = of_labels([Row("1", "t", ("a",))], [output(9.0, -9.0, 9.0)], LABELS)
    assert found is not None
    assert sum(p.decisions for p in found.points) == 3
    assert found.ece == pytest.approx(1 / 3, abs=1e-3)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(LABELS), st.lists(st.floats(-9, 9), min_size=3, max_size=3)),
        min_size=2,
    )
)
def test_brier_is_that_of_scikit_learn(cases: list[tuple[str, list[float]]]) -> None:
    rows = [Row(str(i), "t", (label,)) for i, (label, _) in enumerate(cases)]
    outputs = [output(*logits) for _, logits in cases]
    logits = np.array([o.logits for o in outputs], dtype=np.float64)
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = brier_score_loss(
        [label for label, _ in cases], chance, labels=list(LABELS), scale_by_half=False
    )
    assert brier("text-classification", rows, outputs, LABELS) == pytest.approx(expected)


def test_a_label_that_the_model_does_not_know_costs_a_full_error() -> None:
    found = brier("text-classification", [Row("1", "t", ("new",))], [output(99.0, 0, 0)], LABELS)
    assert found == pytest.approx(2.0)


def test_brier_of_several_labels_is_the_mean_squared_error() -> None:
    rows = [Row("1", "t", ("a", "b")), Row("2", "t")]
    outputs = [output(99.0, -99.0, -99.0), output(-99.0, -99.0, 0.0)]
    found = brier("multi-label-classification", rows, outputs, LABELS)
    assert found == pytest.approx((1.0 + 0.25) / 6)

"""The choice of a cascade's threshold: what it promises, what it costs, and how often it errs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.cascade import Threshold, build_cascade, choose_threshold, fit_temperature
from edgeloop.errors import EngineError, ExportError
from edgeloop.kinds import FIRST_TOKENIZER, model_files
from edgeloop.models import open_model
from edgeloop.statistics import paired_drop
from tests import stages, tiny

Right = NDArray[np.bool_]
Drawn = tuple[NDArray[np.float64], Right, Right]


def choose(
    sure: NDArray[np.float64], first: Right, second: Right, reference: Right, margin: float = 0.05
) -> Threshold | None:
    return choose_threshold(sure, first, second, reference, margin, 0.95, 0.1, 1.0)


def rows(
    rng: np.random.Generator, count: int, first_is_worse: float
) -> tuple[NDArray[np.float64], Right, Right]:
    """Confidence, and who is right: the first stage errs where it is unsure, and more than that."""
    sure = rng.random(count)
    second = rng.random(count) < 0.9
    first = second & ~(rng.random(count) < first_is_worse * (1.0 - sure) ** 2)
    return sure, first, second


# -- the choice --------------------------------------------------------------------------------


def test_a_first_stage_that_is_never_worse_answers_everything() -> None:
    sure, first, second = rows(np.random.default_rng(0), 600, 0.0)
    chosen = choose(sure, first, second, second)
    assert chosen is not None
    assert (chosen.hit_ratio, chosen.value) == (1.0, sure.min())
    assert chosen.cost_ms == pytest.approx(0.1)


def test_a_first_stage_that_errs_where_it_is_unsure_answers_the_rest() -> None:
    sure, first, second = rows(np.random.default_rng(0), 2000, 1.0)
    chosen = choose(sure, first, second, second)
    assert chosen is not None
    assert 0.2 < chosen.hit_ratio < 0.8
    is_first = sure >= chosen.value
    assert chosen.hit_ratio == is_first.mean()
    assert chosen.cost_ms == pytest.approx(0.1 + (1 - is_first.mean()))
    assert chosen.drop.candidate_accuracy == np.where(is_first, first, second).mean()
    assert chosen.drop.upper_bound_ratio <= 0.05


def test_the_cost_is_that_of_the_rows_which_each_stage_answers() -> None:
    sure, first, second = rows(np.random.default_rng(0), 2000, 1.0)
    long = np.where(sure < 0.5, 3.0, 1.0)
    chosen = choose_threshold(sure, first, second, second, 0.05, 0.95, 0.1 * long, long)
    assert chosen is not None
    expected = (0.1 * long).mean() + long[sure < chosen.value].sum() / 2000
    assert chosen.cost_ms == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "margin"), [(20, 0.05), (600, 0.001)], ids=["too few rows", "too small a margin"]
)
def test_where_nothing_can_be_shown_there_is_no_threshold(count: int, margin: float) -> None:
    sure, first, second = rows(np.random.default_rng(1), count, 1.0)
    assert choose(sure, first, second, second, margin) is None


def test_luck_below_a_stretch_that_fails_is_not_taken() -> None:
    """The first stage errs in the middle of its confidence, and makes that good below it: were it
    to answer everything, the sum would look right. The walk stops where the errors begin."""
    sure = np.linspace(0.0, 1.0, 1000)
    first, second = np.ones(1000, dtype=bool), np.ones(1000, dtype=bool)
    first[300:400] = False
    second[:100] = False
    assert paired_drop(second, first, 0.95).upper_bound_ratio <= 0.045
    chosen = choose(sure, first, second, second)
    assert chosen is not None
    assert 0.3 < chosen.value < 0.41


@given(st.integers(0, 10_000), st.sampled_from([60, 150, 400]))
@settings(max_examples=25, deadline=None)
def test_what_is_chosen_keeps_to_the_margin_on_its_own_rows(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    sure, first, second = rows(rng, count, 2.0 * rng.random())
    sure = np.round(sure, 1)  # many rows are equally sure
    chosen = choose(sure, first, second, second, margin=0.06)
    if chosen is not None:
        right = np.where(sure >= chosen.value, first, second)
        assert chosen.drop.candidate_accuracy == right.mean()
        assert chosen.drop.upper_bound_ratio <= 0.06
        assert 0.0 < chosen.hit_ratio <= 1.0


def test_rows_that_do_not_pair_are_an_error() -> None:
    one, two = np.ones(3, dtype=bool), np.ones(4, dtype=bool)
    with pytest.raises(ValueError, match="."):
        choose(np.ones(3), one, one, two)
    with pytest.raises((ValueError, IndexError)):
        choose(np.ones(0), one[:0], one[:0], one[:0])


# -- certified on other rows -------------------------------------------------------------------

ROUNDS = 1500
CONFIDENCE = 0.8
MARGIN, LOST = 0.06, 0.062


def draw(rng: np.random.Generator, count: int) -> Drawn:
    """A first stage that is wrongly sure: it loses LOST of all rows, all of them where it is surer
    than half of the time, so that every threshold up to a half loses more than the margin."""
    sure = rng.random(count)
    return sure, ~((sure > 0.5) & (rng.random(count) < 2.0 * LOST)), np.ones(count, dtype=bool)


def test_a_cascade_that_is_too_bad_is_certified_as_seldom_as_is_stated() -> None:
    """By luck it is chosen now and then; certified on other rows it is in at most 1 - CONFIDENCE of
    those cases."""
    rng = np.random.default_rng(3)
    offered = wrong = 0
    for _ in range(ROUNDS):
        sure, first, second = draw(rng, 80)
        chosen = choose_threshold(sure, first, second, second, MARGIN, CONFIDENCE, 0.1, 1.0)
        if chosen is None or chosen.value > 0.5:
            continue
        offered += 1
        sure, first, second = draw(rng, 150)
        right = np.where(sure >= chosen.value, first, second)
        wrong += paired_drop(second, right, CONFIDENCE).upper_bound_ratio <= MARGIN
    assert offered > 100, "the simulation must put the promise to the test"
    allowed = 1.0 - CONFIDENCE
    assert wrong / offered <= allowed + 3.0 * np.sqrt(allowed * (1.0 - allowed) / offered)


# -- temperatures ------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("task", ["text-classification", "multi-label-classification"])
def test_the_temperature_that_made_the_labels_is_found(task: str, temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (6000, 3))
    scaled = logits / temperature
    if task == "text-classification":
        noise = rng.gumbel(size=logits.shape)
        truth = np.eye(3)[(scaled + noise).argmax(axis=1)]
    else:
        truth = (rng.random(logits.shape) < 1 / (1 + np.exp(-scaled))).astype(float)
    assert fit_temperature(logits, truth, task) == pytest.approx(temperature, rel=0.1)


def test_a_model_that_is_always_right_gets_a_finite_temperature() -> None:
    logits = np.eye(3) * 5.0
    assert 0.0 < fit_temperature(logits, np.eye(3), "text-classification") < 1.0


# -- the folder --------------------------------------------------------------------------------


def test_what_is_predicted_is_what_the_cascade_does_on_the_choosing_rows(tmp_path: Path) -> None:
    made = stages.make_cascade(tmp_path / "cascade")
    chosen = stages.choosing(tmp_path / "large")
    model = open_model(tmp_path / "cascade", stages.MAX_TOKENS)
    first = [model.answer(row.input).stage == "first" for row in chosen.rows]
    predicted = made.predicted
    assert predicted.rows == len(chosen.rows)
    assert predicted.hit_ratio == pytest.approx(np.mean(first))
    assert (
        predicted.first_ms <= predicted.cost_ms <= predicted.first_ms + predicted.second_ms * 1.001
    )
    assert predicted.drop_bound_ratio <= chosen.margin


def test_the_folder_holds_the_files_of_its_kind_and_no_more(tmp_path: Path) -> None:
    for first in ("linear", "onnx"):
        folder = tmp_path / first / "cascade"
        folder.parent.mkdir()
        stages.make_cascade(folder, first=first)
        assert {path.name for path in folder.iterdir()} == set(model_files(folder))
        assert FIRST_TOKENIZER not in model_files(folder)


def test_a_first_tokenizer_that_differs_goes_along(tmp_path: Path) -> None:
    small, large, folder = (tmp_path / name for name in ("small", "large", "cascade"))
    tiny.make_model(small, seed=1)
    tiny.make_model(large)
    folder.mkdir()
    (small / "tokenizer.json").write_text((small / "tokenizer.json").read_text() + "\n")
    build_cascade(small, large, stages.choosing(large), folder)
    assert FIRST_TOKENIZER in model_files(folder)


def test_the_reason_is_told_where_no_cascade_may_be_offered(tmp_path: Path) -> None:
    large, folder = tmp_path / "large", tmp_path / "cascade"
    tiny.make_model(large)
    stages.make_linear(tmp_path / "small")
    folder.mkdir()
    few = stages.choosing(large, rows=20)
    with pytest.raises(ExportError, match="20 validation rows to lose less than 0.05"):
        build_cascade(tmp_path / "small", large, few, folder)
    with pytest.raises(ExportError, match="needs validation rows, there are none"):
        build_cascade(tmp_path / "small", large, replace(few, rows=[], reference=[]), folder)
    other = replace(few, task="token-classification")
    with pytest.raises(ExportError, match="not token-classification; leave it out"):
        build_cascade(tmp_path / "small", large, other, folder)
    with pytest.raises(ExportError, match="not onnx and linear"):
        build_cascade(large, tmp_path / "small", few, folder)
    with pytest.raises(EngineError, match="no whole model lies here"):
        build_cascade(tmp_path / "none", large, few, folder)
    assert list(folder.iterdir()) == []

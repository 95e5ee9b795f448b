"""The choice of a cascade's threshold: what it expects, what it costs, and that the certificate on
other rows errs as seldom as it states whatever was chosen."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.threshold import (
    Stages,
    Threshold,
    Trial,
    chance_of,
    choose_threshold,
    chosen_labels,
    fit_temperature,
    stack,
)
from edgeloop.statistics import paired_drop

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
SINGLE, MULTI = TASKS = ("text-classification", "multi-label-classification")
TRIAL = Trial(margin=0.02, confidence=0.95, rows=2000)


def stages(rng: np.random.Generator, count: int, errs: float) -> Stages:
    """A first stage that is less likely to be right than the second where it is unsure, and a
    second one that answers as the reference does."""
    sure = rng.random(count)
    differs = rng.random(count) < (1.0 - sure) ** 2
    second = np.full(count, 0.9)
    return Stages(
        sure=sure,
        right_reference=second,
        right_first=np.where(differs, 0.9 * (1.0 - errs), second),
        right_second=second,
        first_differs=differs,
        second_differs=np.zeros(count, dtype=bool),
        first_ms=np.full(count, 0.1),
        second_ms=np.ones(count),
    )


def choose(found: Stages, trial: Trial = TRIAL) -> Threshold:
    chosen = choose_threshold(found, trial)
    assert chosen is not None
    return chosen


# -- the choice --------------------------------------------------------------------------------


def test_a_first_stage_that_is_never_worse_answers_everything() -> None:
    found = stages(np.random.default_rng(0), 600, errs=0.0)
    chosen = choose(replace(found, first_differs=np.zeros(600, dtype=bool)))
    assert (chosen.hit_ratio, chosen.value, chosen.drop_ratio) == (1.0, found.sure.min(), 0.0)
    assert chosen.cost_ms == pytest.approx(0.1)
    assert chosen.pass_probability > 0.9


def test_a_first_stage_that_errs_where_it_is_unsure_answers_the_rest() -> None:
    found = stages(np.random.default_rng(0), 2000, errs=1.0)
    chosen = choose(found)
    is_first = found.sure >= chosen.value
    assert 0.2 < chosen.hit_ratio < 0.9
    assert chosen.hit_ratio == is_first.mean()
    assert chosen.cost_ms == pytest.approx(0.1 + (1 - is_first.mean()))
    lost = np.where(is_first & found.first_differs, 0.9 - found.right_first, 0.0).mean()
    assert chosen.drop_ratio == pytest.approx(lost)
    assert 0.0 < lost < TRIAL.margin


def test_a_smaller_margin_or_fewer_rows_to_show_it_let_the_first_stage_answer_less() -> None:
    found = stages(np.random.default_rng(0), 2000, errs=1.0)
    hits = [
        choose(found, trial).hit_ratio
        for trial in (TRIAL, replace(TRIAL, rows=500), replace(TRIAL, margin=0.01))
    ]
    assert hits[0] > max(hits[1:])


def test_the_cost_is_that_of_the_rows_which_each_stage_answers() -> None:
    found = stages(np.random.default_rng(0), 2000, errs=1.0)
    long = np.where(found.sure < 0.5, 3.0, 1.0)
    chosen = choose(replace(found, first_ms=0.1 * long, second_ms=long))
    expected = (0.1 * long).mean() + long[found.sure < chosen.value].sum() / 2000
    assert chosen.cost_ms == pytest.approx(expected)


@pytest.mark.parametrize(
    "trial",
    [replace(TRIAL, rows=20), replace(TRIAL, margin=0.0005)],
    ids=["too few rows", "too small a margin"],
)
def test_where_nothing_can_be_shown_there_is_no_threshold(trial: Trial) -> None:
    assert choose_threshold(stages(np.random.default_rng(1), 600, errs=1.0), trial) is None


@given(st.integers(0, 10_000), st.sampled_from([30, 150, 400]), st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_what_is_told_is_what_the_threshold_does(seed: int, count: int, errs: float) -> None:
    found = stages(np.random.default_rng(seed), count, errs)
    found = replace(found, sure=np.round(found.sure, 1))  # many rows are equally sure
    chosen = choose_threshold(found, TRIAL)
    if chosen is not None:
        assert chosen.hit_ratio == (found.sure >= chosen.value).mean() > 0.0
        assert 0.1 <= chosen.cost_ms < 1.1
        assert 0.1 <= chosen.pass_probability <= 1.0


def test_rows_that_do_not_pair_are_an_error() -> None:
    found = stages(np.random.default_rng(0), 4, errs=0.0)
    with pytest.raises(ValueError, match="one length"):
        choose_threshold(replace(found, sure=np.ones(3)), TRIAL)
    with pytest.raises(ValueError, match="at least 1"):
        choose_threshold(stages(np.random.default_rng(0), 0, errs=0.0), TRIAL)


# -- certified on other rows -------------------------------------------------------------------

CLASSES = 4


def world(
    rng: np.random.Generator, count: int, first_noise: float
) -> tuple[NDArray[np.int_], Floats, Floats]:
    """Labels drawn from the reference's own probabilities, and a first stage whose logits are the
    reference's with noise: (rows,), (rows, classes), (rows, classes)."""
    reference = rng.normal(0.0, 3.0, (count, CLASSES))
    labels = (reference + rng.gumbel(size=reference.shape)).argmax(axis=1)
    first = reference + rng.normal(0.0, first_noise, reference.shape)
    return labels, first, reference


def look(labels: NDArray[np.int_], first: Floats, reference: Floats) -> Stages:
    """What the cascade's building makes of such rows; the second stage is the reference."""
    likeliest = stack(reference, first, np.eye(CLASSES)[labels], SINGLE)
    asked, answered = chosen_labels(reference, SINGLE), chosen_labels(first, SINGLE)
    right = chance_of(asked, likeliest, SINGLE)
    return Stages(
        sure=confidence(first),
        right_reference=right,
        right_first=chance_of(answered, likeliest, SINGLE),
        right_second=right,
        first_differs=(answered != asked).any(axis=1),
        second_differs=np.zeros(len(labels), dtype=bool),
        first_ms=np.full(len(labels), 0.1),
        second_ms=np.ones(len(labels)),
    )


def confidence(logits: Floats) -> Floats:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    best: Floats = 1.0 / shifted.sum(axis=1)
    return best


def right_answers(
    labels: NDArray[np.int_], first: Floats, reference: Floats, value: float
) -> tuple[Flags, Flags]:
    """Of the reference and of the cascade, (rows,) each."""
    expected = reference.argmax(axis=1) == labels
    return expected, np.where(confidence(first) >= value, first.argmax(axis=1) == labels, expected)


def test_the_drop_that_is_expected_is_the_true_one_with_less_noise_than_the_counted_one() -> None:
    rng = np.random.default_rng(5)
    value, expected, counted = 0.5, [], []
    for _ in range(300):
        drawn = world(rng, 400, 1.5)
        found = look(*drawn)
        is_first = found.sure >= value
        lost = (found.right_reference - found.right_first) * found.first_differs * is_first
        expected.append(lost.mean())
        reference, cascade = right_answers(*drawn, value)
        counted.append(reference.mean() - cascade.mean())
    error = 3.0 * np.std(counted) / np.sqrt(300)
    assert np.mean(expected) == pytest.approx(np.mean(counted), abs=error)
    assert np.std(expected) < 0.6 * np.std(counted)


def test_a_cascade_that_is_too_bad_is_certified_as_seldom_as_is_stated() -> None:
    """A margin that the first stage cannot keep to at most thresholds: those that luck makes look
    good are certified on other rows in at most 1 - confidence of the cases."""
    rng = np.random.default_rng(3)
    trial = Trial(margin=0.03, confidence=0.8, rows=150)
    many = world(rng, 200_000, 2.5)
    bad = wrong = 0
    for _ in range(600):
        chosen = choose_threshold(look(*world(rng, 60, 2.5)), trial)
        if chosen is None or true_drop(many, chosen.value) <= trial.margin:
            continue
        bad += 1
        reference, cascade = right_answers(*world(rng, trial.rows, 2.5), chosen.value)
        bound = paired_drop(reference, cascade, trial.confidence).upper_bound_ratio
        wrong += bound <= trial.margin
    assert bad > 50, "the simulation must put the promise to the test"
    allowed = 1.0 - trial.confidence
    assert wrong / bad <= allowed + 3.0 * np.sqrt(allowed * (1.0 - allowed) / bad)


def true_drop(many: tuple[NDArray[np.int_], Floats, Floats], value: float) -> float:
    reference, cascade = right_answers(*many, value)
    return float(reference.mean() - cascade.mean())


# -- chances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("task", TASKS)
def test_the_temperature_that_made_the_labels_is_found(task: str, temperature: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 2.0, (6000, 3))
    truth = draw_truth(rng, logits / temperature, task)
    assert fit_temperature(logits, truth, task) == pytest.approx(temperature, rel=0.1)


def draw_truth(rng: np.random.Generator, logits: Floats, task: str) -> Floats:
    if task == SINGLE:
        drawn: Floats = np.eye(logits.shape[1])[(logits + rng.gumbel(size=logits.shape)).argmax(1)]
        return drawn
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)


def test_a_model_that_is_always_right_gets_a_finite_temperature() -> None:
    logits = np.eye(3) * 5.0
    assert 0.0 < fit_temperature(logits, np.eye(3), SINGLE) < 1.0


@pytest.mark.parametrize("task", TASKS)
def test_the_weights_that_made_the_labels_are_found(task: str) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.0, 2.0, (2, 8000, 3))
    truth = draw_truth(rng, 0.7 * one + 0.2 * other, task)
    assert stack(one, other, truth, task) == pytest.approx(0.7 * one + 0.2 * other, abs=0.4)


def test_a_model_that_contradicts_the_labels_gets_no_weight() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(0.0, 2.0, (4000, 3))
    truth = draw_truth(rng, one, SINGLE)
    assert stack(one, -one, truth, SINGLE) == pytest.approx(one, abs=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_the_chance_of_an_answer_is_the_share_of_rows_where_it_is_the_truth(task: str) -> None:
    rng = np.random.default_rng(1)
    logits = np.tile([[1.0, -0.5, 0.3]], (20_000, 1))
    truth = draw_truth(rng, logits, task).astype(bool)
    for answer in chosen_labels(np.array([[2.0, -1.0, -2.0], [-1.0, -1.0, 3.0]]), task):
        expected = (truth == answer).all(axis=1).mean()
        chances = chance_of(np.tile(answer, (len(logits), 1)), logits, task)
        assert chances == pytest.approx(expected, abs=0.015)


def test_answers_are_those_of_the_tasks() -> None:
    logits = np.array([[1.0, 3.0, 2.0], [-1.0, -2.0, -3.0]])
    assert chosen_labels(logits, SINGLE).tolist() == [[False, True, False], [True, False, False]]
    assert chosen_labels(logits, MULTI).tolist() == [[True, True, True], [False, False, False]]

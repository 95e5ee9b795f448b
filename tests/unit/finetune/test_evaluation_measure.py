"""The bootstrap's intervals cover the truth as often as they state, for every kind of figure."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgeloop.figures import f1, macro_f1, ratio
from finetune.evaluation.measure import (
    Measure,
    difference,
    interval,
    mean,
    upper_bound,
)

DATA_SETS = 200
# The bootstrap is exact in large samples only: at a few hundred rows it may fall short by this.
SHORTFALL = 0.015
Draw = Callable[[np.random.Generator, int], Measure]


def least_share(promised: float) -> float:
    """The lowest share of hits in DATA_SETS that keeps the promise, bar 1 in 1,000."""
    return float(stats.binom.ppf(1e-3, DATA_SETS, promised - SHORTFALL)) / DATA_SETS


def accuracy(p: float) -> Draw:
    return lambda rng, rows: mean(rng.random(rows) < p)


def spans(rng: np.random.Generator, rows: int) -> Measure:
    """Rows hold up to three spans, of which a row finds most or few: rows are not alike."""
    there, skill = rng.integers(0, 4, rows), rng.beta(4, 1, rows)
    hits = rng.binomial(there, skill)
    return Measure.of_rows(np.column_stack([hits, rng.poisson(0.2, rows), there - hits]), f1)


def classes(rng: np.random.Generator, rows: int) -> Measure:
    """Four classes of unequal size and difficulty."""
    truth = rng.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
    right = rng.random(rows) < np.array([0.95, 0.9, 0.8, 0.7])[truth]
    answer = np.where(right, truth, (truth + rng.integers(1, 4, rows)) % 4)
    parts = np.zeros((rows, 4, 3))
    place = np.arange(rows)
    parts[place[right], truth[right], 0] = 1
    parts[place[~right], answer[~right], 1] = 1
    parts[place[~right], truth[~right], 2] = 1
    return Measure.of_rows(parts.reshape(rows, -1), macro_f1)


def reciprocal(rng: np.random.Generator, rows: int) -> Measure:
    ranks = rng.geometric(0.5, rows)
    return mean(np.where(ranks <= 10, 1.0 / ranks, 0.0))


def paired(rng: np.random.Generator, rows: int) -> Measure:
    """Two models that err on much the same rows."""
    hard = rng.random(rows) < 0.2
    first, second = (~(hard & (rng.random(rows) < p)) for p in (0.5, 0.7))
    return difference(mean(first), mean(second))


FIGURES: dict[str, tuple[Draw, int]] = {
    "accuracy 0.6, 60 rows": (accuracy(0.6), 60),
    "accuracy 0.93, 300 rows": (accuracy(0.93), 300),
    "accuracy 0.98, 200 rows": (accuracy(0.98), 200),
    "accuracy 1, 50 rows": (accuracy(1.0), 50),
    "accuracy 0.995, 80 rows": (accuracy(0.995), 80),
    "span F1": (spans, 200),
    "macro F1": (classes, 400),
    "MRR": (reciprocal, 150),
    "paired difference": (paired, 200),
}


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_cover_in_simulation(name: str) -> None:
    draw, rows = FIGURES[name]
    rng = np.random.default_rng(5)
    truth = draw(rng, 400_000).value
    hits = 0
    for seed in range(DATA_SETS):
        found = interval(draw(rng, rows), seed=seed, resamples=400)
        hits += found.low <= truth <= found.high
    assert hits / DATA_SETS >= least_share(0.95)


@pytest.mark.parametrize("name", ["span F1", "paired difference", "MRR"])
def test_upper_bounds_cover_in_simulation(name: str) -> None:
    draw, rows = FIGURES[name]
    rng = np.random.default_rng(6)
    truth = draw(rng, 400_000).value
    above = sum(upper_bound(draw(rng, rows), 0.95, seed, 400) >= truth for seed in range(DATA_SETS))
    assert above / DATA_SETS >= least_share(0.95)


def test_intervals_are_not_wider_than_the_normal_one_by_much() -> None:
    found = interval(accuracy(0.9)(np.random.default_rng(0), 3000))
    half = 1.96 * np.sqrt(0.9 * 0.1 / 3000)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_the_same_rows_give_the_same_interval_in_any_order() -> None:
    right = np.random.default_rng(1).random(500) < 0.8
    assert interval(mean(right)) == interval(mean(right[::-1]))


def test_without_an_error_the_interval_is_what_no_error_leaves_open() -> None:
    found = interval(mean(np.ones(100, dtype=bool)))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 100))


def test_models_that_answer_alike_may_still_differ_on_rows_not_seen() -> None:
    right = np.random.default_rng(2).random(100) < 0.8
    found = interval(difference(mean(right), mean(right)))
    assert found.value == 0.0
    assert found.low == pytest.approx(-found.high)
    assert 0.03 < found.high < 0.04


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 5))
def test_intervals_hold_the_figure_and_stay_in_its_range(right: list[bool], seed: int) -> None:
    found = interval(mean(np.array(right)), seed=seed, resamples=200)
    assert 0.0 <= found.low <= found.value <= found.high <= 1.0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1),
)
def test_a_difference_is_that_of_its_figures(
    one: list[tuple[int, int, int]], other: list[tuple[int, int, int]]
) -> None:
    rows = min(len(one), len(other))
    first, second = (Measure.of_rows(np.array(parts[:rows]), f1) for parts in (one, other))
    found = difference(first, second)
    assert found.value == pytest.approx(first.value - second.value)
    assert -1.0 <= interval(found, resamples=100).low <= interval(found, resamples=100).high <= 1.0


def test_figures_over_different_rows_have_no_difference() -> None:
    with pytest.raises(ValueError, match="2 and 3 rows do not pair"):
        difference(mean(np.ones(2)), mean(np.ones(3)))


def test_no_rows_have_no_interval() -> None:
    with pytest.raises(ValueError, match="0 rows"):
        interval(Measure.of_rows(np.zeros((0, 3)), f1))


def test_nothing_of_nothing_is_zero() -> None:
    assert f1(np.zeros(3)) == 0.0
    assert macro_f1(np.zeros((2, 6))).tolist() == [0.0, 0.0]
    assert ratio(np.array([1.0]), np.array([0.0])).tolist() == [0.0]

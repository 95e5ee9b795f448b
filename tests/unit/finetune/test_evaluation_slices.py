"""Slices: what they are, their intervals, and how seldom one is called worse by chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgeloop.records import Interval
from edgeloop.rows import Row
from edgeloop.slices import FEWEST_ROWS, RARE_VALUES, groups, script
from finetune.evaluation.slices import holm, judge_groups, slices, wilson

DATA_SETS = 400


def rows_of(count: int, rng: np.random.Generator, values: int = 6) -> list[Row]:
    return [
        Row(f"r{i}", "x" * int(rng.integers(1, 90)), slices=(("shop", f"s{i % values}"),))
        for i in range(count)
    ]


@pytest.mark.parametrize(("rows", "p"), [(240, 0.9), (600, 0.98), (240, 0.5), (2000, 0.995)])
def test_a_slice_is_called_worse_by_chance_at_most_as_often_as_stated(rows: int, p: float) -> None:
    rng = np.random.default_rng(rows)
    cut = groups(rows_of(rows, rng))
    named = 0
    for _ in range(DATA_SETS):
        _, worst = judge_groups(cut, rng.random(rows) < p)
        named += worst is not None
    assert named <= stats.binom.ppf(1 - 1e-3, DATA_SETS, 0.05)


def test_a_slice_that_is_worse_is_named() -> None:
    rng = np.random.default_rng(0)
    rows = rows_of(900, rng)
    chance = np.where([dict(r.slices)["shop"] == "s2" for r in rows], 0.6, 0.95)
    found, worst = slices(rows, rng.random(900) < chance)
    assert worst == "shop: s2"
    assert [s.name for s in found if s.differs] == ["shop: s2"]


def test_a_slice_that_is_better_is_not_named() -> None:
    rows = rows_of(900, np.random.default_rng(0), values=2)
    right = np.array([i % 2 == 0 or i % 4 == 1 for i in range(900)])
    found, worst = slices(rows, right)
    assert worst == "shop: s1"
    assert not any(s.differs for s in found if s.name == "shop: s0")


def test_too_few_rows_are_shown_and_never_judged() -> None:
    rows = [
        Row(f"r{i}", "some text", slices=(("shop", "small" if i < FEWEST_ROWS - 1 else "big"),))
        for i in range(400)
    ]
    right = np.array([i >= FEWEST_ROWS - 1 for i in range(400)])
    found, worst = slices(rows, right)
    small = next(s for s in found if s.value == "small")
    assert (small.too_few, small.differs, small.rows) == (True, False, FEWEST_ROWS - 1)
    assert small.right.high < 0.2
    assert worst is None


def test_lengths_are_cut_in_three_and_scripts_apart() -> None:
    rows = [Row(f"r{i}", "a" * (i + 1)) for i in range(90)]
    rows += [Row(f"k{i}", "я" * 200) for i in range(40)]
    found, _ = slices(rows, np.ones(130, dtype=bool))
    by_name = {s.name: s.rows for s in found}
    assert by_name["script: latin"] == 90
    assert by_name["script: cyrillic"] == 40
    lengths = [s.rows for s in found if s.column == "length"]
    assert len(lengths) == 3
    assert sum(lengths) == 130
    assert max(lengths) - min(lengths) <= 2


def test_a_slice_of_all_rows_is_none() -> None:
    rows = [Row(f"r{i}", "abc", slices=(("shop", "one"),)) for i in range(50)]
    assert slices(rows, np.arange(50) > 9) == ((), None)


def test_the_rarest_of_many_values_are_taken_as_one() -> None:
    rows = [Row(f"r{i}", "abc", slices=(("customer", f"c{i}"),)) for i in range(100)]
    found, _ = slices(rows, np.arange(100) > 9)
    assert len(found) == RARE_VALUES + 1
    assert next(s for s in found if s.rows > 1).value == f"({100 - RARE_VALUES} rare values)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Where is my card?", "latin"),
        ("Где моя карта? ok", "cyrillic"),
        ("我的卡在哪里", "cjk"),
        ("カードはどこ", "katakana"),
        ("أين بطاقتي", "arabic"),
        ("123 !?", "none"),
        ("", "none"),
    ],
)
def test_scripts_by_the_letters(text: str, expected: str) -> None:
    assert script(text) == expected


@settings(max_examples=50)
@given(st.text(max_size=20))
def test_any_text_has_a_script(text: str) -> None:
    assert script(text) == script(text).lower() != ""


@pytest.mark.parametrize("p", [0.5, 0.9, 0.97])
@pytest.mark.parametrize("rows", [40, 200])
def test_wilson_covers_on_average_by_enumeration(rows: int, p: float) -> None:
    """Its promise is an average over p, not a bound: within 2.5 points at these."""
    counts = np.arange(rows + 1)
    inside = np.array([_holds(wilson(int(k), rows), p) for k in counts])
    covered = stats.binom.pmf(counts, rows, p)[inside].sum()
    assert covered == pytest.approx(0.95, abs=0.025)


def _holds(found: Interval, p: float) -> bool:
    return found.low <= p <= found.high


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    successes, rows = case
    found = wilson(successes, rows)
    expected = stats.binomtest(successes, rows).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.low <= found.value <= found.high


def test_wilson_refuses_what_is_no_proportion() -> None:
    with pytest.raises(ValueError, match="3 successes of 2 rows"):
        wilson(3, 2)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.01, 0.2))
def test_holm_lies_between_bonferroni_and_no_correction(values: list[float], alpha: float) -> None:
    rejected = holm(values, alpha)
    for value, out in zip(values, rejected, strict=True):
        assert out or value > alpha / len(values)
        assert not out or value <= alpha
    assert sorted(values)[: sum(rejected)] == sorted(
        v for v, out in zip(values, rejected, strict=True) if out
    )


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.001, 0.02, 0.5], 0.05) == [False, True, False, False]
    assert holm([0.01, 0.02, 0.03], 0.06) == [True, True, True]

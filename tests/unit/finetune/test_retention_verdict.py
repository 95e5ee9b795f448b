"""Kept, undecided or forgotten: the rule, and that its stated error rates hold."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeloop.records import PairedDrop
from edgeloop.statistics import drop_upper_bound
from finetune.retention.verdict import POWER, by_class, decide, judge

CONFIDENCE = 0.95
BOUNDS: dict[tuple[int, int, int], float] = {}


def drop(lost: int, gained: int, rows: int) -> PairedDrop:
    """As statistics.paired_drop makes it; only what `decide` reads is real."""
    key = lost, gained, rows
    if key not in BOUNDS:
        BOUNDS[key] = drop_upper_bound(*key, CONFIDENCE)
    return PairedDrop(
        rows=rows,
        reference_accuracy=1.0,
        candidate_accuracy=1.0,
        lost=lost,
        gained=gained,
        drop_ratio=(lost - gained) / rows,
        upper_bound_ratio=BOUNDS[key],
        confidence=CONFIDENCE,
    )


def answers(lost: int, gained: int, rows: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    before, after = np.ones(rows, dtype=bool), np.ones(rows, dtype=bool)
    after[:lost] = False
    before[lost : lost + gained] = False
    return before, after


def outcomes(
    lost: float, gained: float, rows: int, max_drop: float, draws: int, seed: int
) -> dict[str, float]:
    """The share of each verdict where the true rates are these."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(rows, [lost, gained, 1.0 - lost - gained], size=draws)
    found: Counter[str] = Counter()
    for (lost_rows, gained_rows), times in Counter((int(b), int(c)) for b, c, _ in counts).items():
        found[decide(drop(lost_rows, gained_rows, rows), max_drop)[0]] += times
    return {verdict: times / draws for verdict, times in found.items()}


# -- the rule ----------------------------------------------------------------------------------


def test_the_same_answers_on_enough_rows_are_kept() -> None:
    before, after = answers(0, 0, 400)
    found = judge(before, after, [("a",)] * 400, 0.02, CONFIDENCE)
    assert (found.verdict, found.passed, found.rows_needed) == ("kept", True, None)
    assert found.reasons[0].startswith("passed: on 400 rows the accuracy goes from 1.000 to 1.000")


def test_too_few_rows_are_undecided_and_pass_and_the_missing_ones_are_named() -> None:
    before, after = answers(0, 0, 128)
    found = judge(before, after, [("a",)] * 128, 0.02, CONFIDENCE)
    assert (found.verdict, found.passed) == ("undecided", True)
    assert found.rows_needed == 149  # 0.98 ** 149 < 0.05
    assert found.reasons[1] == "about 149 rows needed to tell, the suite has 128"


def test_few_rows_fail_where_more_than_allowed_is_lost_on_them() -> None:
    before, after = answers(3, 0, 128)
    found = judge(before, after, [("a",)] * 128, 0.02, CONFIDENCE)
    assert (found.verdict, found.passed) == ("forgotten", False)


def test_enough_rows_fail_where_the_bound_is_above_what_is_allowed() -> None:
    found = decide(drop(24, 4, 1000), 0.03)  # 0.02 is lost, 0.028 possible: kept
    assert found == ("kept", None)
    found = decide(drop(32, 4, 1000), 0.03)  # 0.028 is lost, 0.039 possible, an even one is not
    assert found == ("forgotten", None)


def test_the_classes_are_named() -> None:
    before, after = answers(20, 0, 60)
    found = judge(before, after, [("a",)] * 20 + [("b",)] * 40, 0.02, CONFIDENCE)
    assert found.verdict == "forgotten"
    assert found.reasons[-1] == "forgotten: a (1.00 to 0.00 on 20 rows)"
    assert [(c.label, c.lost, c.forgotten) for c in found.classes] == [
        ("a", 20, True),
        ("b", 0, False),
    ]


def test_where_no_class_is_forgotten_for_certain_those_that_lost_most_are_named() -> None:
    before, after = answers(4, 1, 40)
    classes = [("a",), ("b",), ("b",), ("c",), ("d",)] + [("e",)] * 35
    found = judge(before, after, classes, 0.02, CONFIDENCE)
    assert found.reasons[-1] == (
        "fell most: b (1.00 to 0.00 on 2 rows), a (1.00 to 0.00 on 1 rows), "
        "c (1.00 to 0.00 on 1 rows)"
    )


def test_a_forgotten_class_is_named_also_where_the_whole_is_kept() -> None:
    before, after = answers(10, 0, 2000)
    found = judge(before, after, [("a",)] * 10 + [("b",)] * 1990, 0.02, CONFIDENCE)
    assert found.verdict == "kept"
    assert found.reasons[-1].startswith("forgotten: a (1.00 to 0.00")


def test_without_a_previous_model_nothing_is_compared() -> None:
    found = judge(None, np.array([True, False]), [("a",), ("b",)], 0.02, CONFIDENCE)
    assert (found.verdict, found.passed, found.drop) == ("not compared", True, None)
    assert "no model was deployed before" in found.reasons[0]
    assert [(c.before, c.after) for c in found.classes] == [(None, 1.0), (None, 0.0)]


def test_without_rows_nothing_is_compared() -> None:
    none = np.zeros(0, dtype=bool)
    assert judge(none, none, [], 0.02, CONFIDENCE).verdict == "not compared"


@settings(max_examples=25, deadline=None)
@given(
    counts=st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 300)),
    max_drop=st.sampled_from([0.005, 0.02, 0.1, 1.0]),
)
def test_what_holds_for_all_counts(counts: tuple[int, int, int], max_drop: float) -> None:
    lost, gained, more = counts
    found = drop(lost, gained, lost + gained + more)
    verdict, needed = decide(found, max_drop)
    assert (verdict == "kept") == (found.upper_bound_ratio <= max_drop)
    if found.drop_ratio > max_drop:
        assert verdict == "forgotten"
    if verdict == "forgotten":
        assert lost > gained, "a model that gained as much as it lost forgot nothing"
    if verdict == "undecided":
        assert needed is not None
    if verdict == "kept":
        assert needed is None
    assert needed is None or needed > found.rows


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc")), max_size=60))
def test_the_classes_add_up(rows: list[tuple[bool, bool, str]]) -> None:
    before = np.array([r[0] for r in rows], dtype=bool)
    after = np.array([r[1] for r in rows], dtype=bool)
    found = by_class(before, after, [(r[2],) for r in rows])
    assert sum(c.rows for c in found) == len(rows)
    assert sum(c.lost - c.gained for c in found) == int(before.sum()) - int(after.sum())
    for c in found:
        assert c.before is not None
        assert round((c.before - c.after) * c.rows) == c.lost - c.gained


# -- the error rates ---------------------------------------------------------------------------

# Four standard errors of a share of 5% in so many draws.
DRAWS, SLACK = 1000, 0.028


@pytest.mark.parametrize(("rows", "gained"), [(60, 0.0), (400, 0.0), (60, 0.01)])
def test_a_drop_above_what_is_allowed_is_rarely_called_kept(rows: int, gained: float) -> None:
    found = outcomes(gained + 0.0501, gained, rows, 0.05, DRAWS, seed=rows)
    assert found.get("kept", 0.0) <= 1.0 - CONFIDENCE + SLACK


@pytest.mark.parametrize(("changed", "rows"), [(3, 120), (9, 200), (16, 300)])
def test_a_model_without_a_drop_is_rarely_stopped_where_the_rows_are_enough(
    changed: int, rows: int
) -> None:
    rng = np.random.default_rng(1)
    stopped = enough = 0
    for lost, times in Counter(rng.binomial(changed, 0.5, size=DRAWS).tolist()).items():
        verdict, needed = decide(drop(lost, changed - lost, rows), 0.05)
        enough += times * (needed is None)
        stopped += times * (verdict == "forgotten")
    assert enough == DRAWS
    assert stopped / DRAWS <= 1.0 - POWER + 2 * SLACK


def test_few_rows_let_half_pass_at_the_limit_and_hardly_any_far_above_it() -> None:
    at_limit = outcomes(0.05, 0.0, 50, 0.05, DRAWS, seed=2)
    assert 0.3 <= at_limit["forgotten"] <= 0.6
    far_above = outcomes(0.2, 0.0, 50, 0.05, DRAWS, seed=3)
    assert far_above["forgotten"] >= 0.97


def test_a_class_is_rarely_called_forgotten_where_none_is() -> None:
    rng = np.random.default_rng(4)
    classes = [(label,) for label in "abcdefgh" for _ in range(25)]
    named = 0
    for _ in range(400):
        before, after = rng.random((2, len(classes))) < 0.8
        named += any(c.forgotten for c in by_class(before, after, classes, CONFIDENCE))
    assert named / 400 <= 1.0 - CONFIDENCE

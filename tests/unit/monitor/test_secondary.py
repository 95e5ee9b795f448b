"""The secondary detectors bet fairly on levels that treat every value, tie and gap alike."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.secondary import (
    BINS,
    CLASS_LEVELS,
    LEVELS,
    MARGIN_DEVIATIONS,
    MISSING,
    QUANTILES,
    Scale,
    Secondary,
    fit_classes,
    fit_scale,
    level_of,
    levels_of,
    payoffs,
    shape_of,
)
from tests import traffic

finite = st.floats(-1e6, 1e6)
samples = st.lists(st.one_of(finite, st.just(math.nan), st.integers(0, 3).map(float)), min_size=2)


@pytest.fixture(scope="module")
def scales() -> tuple[Scale, ...]:
    return traffic.fit(traffic.draw(600, np.random.default_rng(0)))[0]


# -- levels ----------------------------------------------------------------------------------------


@given(samples)
def test_every_reference_row_is_counted_and_none_lies_beyond(values: list[float]) -> None:
    scale = fit_scale("x", np.array(values))
    assert sum(scale.counts) == len(values)
    assert scale.counts[MISSING] == sum(math.isnan(value) for value in values)
    scale.check()
    if scale.edges:
        assert scale.counts[1] == 0
        assert scale.counts[len(scale.edges) + 1] == 0


@given(samples, st.lists(finite, min_size=2))
def test_a_higher_value_never_has_a_lower_level(values: list[float], asked: list[float]) -> None:
    scale = fit_scale("x", np.array(values))
    levels = [level_of(scale, value) for value in sorted(asked)]
    assert levels == sorted(levels)
    assert 1 <= levels[0] <= levels[-1] < LEVELS


def test_what_the_reference_never_had_has_levels_of_its_own() -> None:
    scale = fit_scale("x", np.array([2.0, 2.0, 2.0, 5.0]))
    below, low, high, above = (level_of(scale, value) for value in (1.9, 2.0, 5.0, 5.1))
    assert below < low < high < above
    assert (scale.counts[low], scale.counts[high]) == (3, 1)
    assert level_of(scale, math.nan) == MISSING


def test_a_constant_feature_has_one_level_and_two_beyond() -> None:
    scale = fit_scale("x", np.zeros(10))
    assert [level_of(scale, value) for value in (-1e-9, 0.0, 1e-9)] == [1, 2, 3]
    assert scale.counts[2] == 10


def test_a_feature_that_no_row_has_is_all_missing() -> None:
    scale = fit_scale("x", np.full(4, np.nan))
    assert (scale.counts[MISSING], scale.edges) == (4, ())
    assert level_of(scale, 3.0) != MISSING


def test_bins_are_the_deciles() -> None:
    values = np.arange(1000.0)
    scale = fit_scale("x", values)
    rows = np.bincount([scale.bins[level_of(scale, value)] for value in values])
    assert rows.tolist() == [100] * BINS
    assert scale.bins[level_of(scale, -5.0)] == 0
    assert scale.bins[level_of(scale, 2000.0)] == BINS - 1
    assert scale.median == 499.5


def test_equal_deciles_leave_bins_empty() -> None:
    scale = fit_scale("x", np.array([0.0] * 85 + [1.0] * 15))
    assert {scale.bins[level_of(scale, value)] for value in (0.0, 1.0)} == {0, 8}


@given(st.lists(st.integers(0, 39), min_size=1, max_size=200))
def test_the_commonest_classes_have_levels_of_their_own(predicted: list[int]) -> None:
    scale = fit_classes(np.array(predicted), 40)
    scale.check()
    counts = np.bincount(predicted, minlength=40)
    assert sum(scale.counts) == len(predicted)
    order = sorted(range(40), key=lambda own: -counts[own])
    first = order[: CLASS_LEVELS - 1]
    assert len({level_of(scale, own) for own in first}) == len(first)
    assert {level_of(scale, own) for own in order[CLASS_LEVELS - 1 :]} == {CLASS_LEVELS - 1}


@pytest.mark.parametrize(
    "change",
    [
        {"counts": (1, 2)},
        {"edges": (2.0, 1.0)},
        {"edges": (math.inf,)},
        {"bins": (12,) * LEVELS},
        {"classes": (99,)},
        {"edges": tuple(map(float, range(LEVELS)))},
        {"median": math.nan},
    ],
)
def test_a_scale_that_does_not_fit_together_is_refused(change: dict[str, object]) -> None:
    known: dict[str, object] = {
        "name": "x",
        "edges": (1.0, 2.0),
        "counts": (0,) * LEVELS,
        "bins": (0,) * LEVELS,
        "median": 1.0,
    }
    Scale(**known).check()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'x'"):
        Scale(**{**known, **change}).check()  # type: ignore[arg-type]


# -- bets ------------------------------------------------------------------------------------------


@given(arrays(np.int64, (3, LEVELS), elements=st.integers(0, 400)).filter(lambda c: c.sum(1).all()))
@settings(deadline=None)
def test_no_member_gains_on_the_reference_itself_nor_loses_all(counts: np.ndarray) -> None:
    edges = tuple(map(float, range(LEVELS - 2)))
    scales = [
        Scale("x", edges, tuple(own.tolist()), (0,) * LEVELS, 0.0, ()) for own in counts[:2]
    ] + [Scale("c", (), tuple(counts[2].tolist()), (0,) * LEVELS, 0.0, (0, 1, CLASS_LEVELS - 1))]
    table = payoffs(counts, shape_of(scales))
    assert table.min() >= 0.0
    means = np.einsum("flm,fl->fm", table, counts / counts.sum(1, keepdims=True))
    assert means.max() <= 1.0 + 1e-9


def test_margins_bound_the_payoff_where_the_reference_errs(scales: tuple[Scale, ...]) -> None:
    """The mean payoff on the truth exceeds 1 no oftener than three deviations of the reference's
    error do."""
    truth = traffic.draw(200_000, np.random.default_rng(9))
    above = []
    for seed in range(40):
        own, _ = traffic.fit(traffic.draw(500, np.random.default_rng([1, seed])))
        share = np.stack(
            [
                np.bincount([level_of(scale, v) for v in truth[:20_000, at]], minlength=LEVELS)
                for at, scale in enumerate(own)
            ]
        )
        counts = np.array([scale.counts for scale in own])
        table = payoffs(counts, shape_of(own))
        means = np.einsum("flm,fl->fm", table, share / 20_000)
        weights = shape_of(own).weights
        above.append(np.mean(means[weights > 0.0] > 1.0))
    assert MARGIN_DEVIATIONS == 3.0
    assert np.mean(above) < 0.01


def test_many_references_at_once_are_each_as_alone(scales: tuple[Scale, ...]) -> None:
    shape = shape_of(scales)
    rng = np.random.default_rng(3)
    counts = np.stack([rng.multinomial(300, np.full(LEVELS, 1 / LEVELS), len(scales))] * 2)
    counts[1] = counts[1][::-1]
    both = payoffs(counts, shape)
    assert np.array_equal(both[1], payoffs(counts[1], shape))


# -- live ------------------------------------------------------------------------------------------


def run(detector: Secondary, values: np.ndarray, threshold: float = 9.0) -> dict[str, int]:
    """The first row at which each detector's evidence passes the threshold."""
    first: dict[str, int] = {}
    for at, row in enumerate(values.tolist()):
        detector.update(detector.levels(row))
        for name, log in zip(detector.names, detector.log_evidence.tolist(), strict=True):
            if log >= threshold:
                first.setdefault(name, at + 1)
    return first


def shifted(change: dict[int, float | np.ndarray], rows: int = 400) -> np.ndarray:
    values = traffic.draw(rows, np.random.default_rng(5))
    for at, value in change.items():
        values[:, at] = value
    return values


@pytest.mark.parametrize(
    ("feature", "value", "rows"),
    [
        (0, 0.4, 20),  # less sure than most
        (0, 0.9999999, 10),  # and surer than all
        (2, 60.0, 10),
        (2, 3.0, 60),
        (3, 0.05, 60),
        (4, 0.5, 8),  # letters that the reference never had
        (4, math.nan, 60),
    ],
)
def test_each_detector_sees_its_own_shift(
    scales: tuple[Scale, ...], feature: int, value: float, rows: int
) -> None:
    found = run(Secondary(scales), shifted({feature: value}))
    assert found.keys() == {traffic.NAMES[feature]}
    assert found[traffic.NAMES[feature]] <= rows


def test_a_shift_of_the_middle_is_seen_without_any_extreme(scales: tuple[Scale, ...]) -> None:
    middle = np.random.default_rng(2).choice([15.0, 16.0, 17.0, 18.0], 400)
    assert "token_length" in run(Secondary(scales), shifted({2: middle}))


def test_a_rare_class_that_becomes_common_is_seen(scales: tuple[Scale, ...]) -> None:
    rare = np.where(np.random.default_rng(2).random(400) < 0.5, 3.0, 19.0)
    assert run(Secondary(scales), shifted({5: rare})).keys() == {"class_mix"}


def test_ordinary_rows_raise_nothing_and_a_reset_starts_anew(scales: tuple[Scale, ...]) -> None:
    detector = Secondary(scales)
    assert run(detector, shifted({}, 1_000)) == {}
    assert detector.log_evidence.max() > 1.0
    detector.reset()
    assert detector.log_evidence.tolist() == [0.0] * len(scales)


def test_levels_of_an_array_are_those_of_its_values(scales: tuple[Scale, ...]) -> None:
    values = traffic.draw(50, np.random.default_rng(4))
    detector = Secondary(scales)
    expected = [detector.levels(row) for row in values.tolist()]
    assert levels_of(scales, values).tolist() == expected
    assert len(QUANTILES) + 4 == LEVELS


@given(cuts=st.lists(st.integers(0, 120), max_size=4).map(sorted))
def test_a_block_of_rows_comes_to_what_they_come_to_one_by_one(
    scales: tuple[Scale, ...], cuts: list[int]
) -> None:
    levels = levels_of(scales, traffic.draw(120, np.random.default_rng(5)))
    one, blocks = Secondary(scales), Secondary(scales)
    expected = []
    for row in levels.tolist():
        one.update(row)
        expected.append(one.log_evidence)
    course = [blocks.update_block(block) for block in np.split(levels, cuts)]
    assert np.concatenate(course) == pytest.approx(np.array(expected), abs=1e-12)
    assert blocks.evidence.tolist() == one.evidence.tolist()

"""Every interval and test of edgeloop.statistics keeps what it states: coverage by enumeration of
all outcomes where that is possible, else by simulation with room for the Monte-Carlo error.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgeloop import statistics
from edgeloop.statistics import (
    clopper_pearson,
    drop_upper_bound,
    paired_drop,
    paired_superiority_p,
    quantile_interval,
    quantile_rows_needed,
    rows_needed,
)

REPLICATES = 2000


def least_share(promised: float, replicates: int = REPLICATES) -> float:
    """The lowest share of hits that a procedure which keeps its promise shows, bar 1 in 10,000."""
    return float(stats.binom.ppf(1e-4, replicates, promised)) / replicates


@cache
def bound(lost: int, gained: int, rows: int, confidence: float) -> float:
    return drop_upper_bound(lost, gained, rows, confidence)


counts = (
    st.integers(1, 120)
    .flatmap(lambda rows: st.tuples(st.integers(0, rows), st.integers(0, rows), st.just(rows)))
    .filter(lambda c: c[0] + c[1] <= c[2])
)


# -- proportions -------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.002, 0.05, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("rows", [1, 7, 40, 300])
def test_clopper_pearson_covers_by_enumeration(rows: int, p: float) -> None:
    hits = [k for k in range(rows + 1) if _holds(clopper_pearson(k, rows, 0.9), p)]
    assert stats.binom.pmf(hits, rows, p).sum() >= 0.9 - 1e-9


def _holds(interval: tuple[float, float], value: float) -> bool:
    return interval[0] - 1e-12 <= value <= interval[1] + 1e-12


def test_clopper_pearson_agrees_with_published_values() -> None:
    # Clopper and Pearson 1934, as tabulated for 10 of 20 at 95%.
    low, high = clopper_pearson(10, 20, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2720, 0.7280)


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_clopper_pearson_is_symmetric_and_holds_the_estimate(
    rows: int, data: st.DataObject
) -> None:
    successes = data.draw(st.integers(0, rows))
    low, high = clopper_pearson(successes, rows, 0.95)
    mirrored = clopper_pearson(rows - successes, rows, 0.95)
    assert low <= successes / rows <= high
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-9)


# -- the paired drop ---------------------------------------------------------------------------


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("rows", [4, 11, 18])
def test_drop_bound_covers_every_truth_by_enumeration(rows: int, confidence: float) -> None:
    outcomes = [(b, c) for b in range(rows + 1) for c in range(rows + 1 - b)]
    table = np.array(outcomes)
    bounds = np.array([bound(b, c, rows, confidence) for b, c in outcomes])
    rates = [0.0, 0.003, 0.02, 0.07, 0.2, 0.45, 0.8]
    for loss in rates:
        for gain in (g for g in rates if g + loss <= 1.0):
            cells = np.column_stack([table, rows - table.sum(axis=1)])
            rest = max(1.0 - loss - gain, 0.0)
            chance = stats.multinomial.pmf(cells, rows, [loss, gain, rest])
            assert chance[bounds >= loss - gain].sum() >= confidence - 1e-9, (loss, gain)


@pytest.mark.parametrize(
    ("rows", "loss", "gain"),
    [
        (744, 0.0, 0.0),
        (744, 0.003, 0.0),
        (744, 0.003, 0.001),
        (240, 0.02, 0.0005),
        (80, 0.03, 0.03),
        (40, 0.02, 0.1),
    ],
)
def test_drop_bound_covers_in_simulation(rows: int, loss: float, gain: float) -> None:
    rng = np.random.default_rng(rows)
    draws = rng.multinomial(rows, [loss, gain, 1.0 - loss - gain], size=REPLICATES)
    hits = sum(bound(int(b), int(c), rows, 0.95) >= loss - gain for b, c, _ in draws)
    assert hits / REPLICATES >= least_share(0.95)


def test_drop_bound_is_tight() -> None:
    """Near the asymptotic score limit, and near 1 - alpha^(1/n) where nothing is discordant."""
    assert drop_upper_bound(0, 0, 744, 0.95) == pytest.approx(1 - 0.05 ** (1 / 744), rel=0.02)
    assert drop_upper_bound(8, 8, 240, 0.95) == pytest.approx(0.0293, rel=0.03)
    assert drop_upper_bound(40, 40, 4000, 0.95) == pytest.approx(0.00374, rel=0.03)


@settings(max_examples=60, deadline=None)
@given(counts)
def test_drop_bound_is_not_below_the_measured_drop(case: tuple[int, int, int]) -> None:
    lost, gained, rows = case
    assert (lost - gained) / rows <= bound(lost, gained, rows, 0.9) <= 1.0


@settings(max_examples=60, deadline=None)
@given(counts, st.floats(0.55, 0.99), st.floats(0.55, 0.99))
def test_drop_bound_grows_with_confidence(
    case: tuple[int, int, int], one: float, other: float
) -> None:
    lower, higher = sorted((one, other))
    assert drop_upper_bound(*case, lower) <= drop_upper_bound(*case, higher) + 1e-6


@settings(max_examples=60, deadline=None)
@given(counts)
def test_more_losses_never_lower_the_drop_bound(case: tuple[int, int, int]) -> None:
    lost, gained, rows = case
    if lost + gained < rows:
        assert bound(lost + 1, gained, rows, 0.95) >= bound(lost, gained, rows, 0.95) - 1e-6


def test_the_score_falls_in_the_drop_so_that_outcomes_have_one_ranking() -> None:
    rows = 30
    for lost in range(rows + 1):
        for gained in range(rows + 1 - lost):
            scores = [
                statistics._tango_score(np.array(lost), np.array(gained), rows, drop)
                for drop in np.linspace(-0.99, 0.99, 67)
            ]
            assert np.all(np.diff(scores) <= 1e-9), (lost, gained)


def test_paired_drop_counts_rows() -> None:
    reference = np.array([True, True, True, False, False] * 20)
    candidate = np.array([True, False, True, True, False] * 20)
    drop = paired_drop(reference, candidate, 0.95)
    assert (drop.rows, drop.lost, drop.gained) == (100, 20, 20)
    assert (drop.reference_accuracy, drop.candidate_accuracy) == (0.6, 0.6)
    assert drop.drop_ratio == 0.0
    assert drop.upper_bound_ratio == drop_upper_bound(20, 20, 100, 0.95)


@pytest.mark.parametrize(("left", "right"), [([], []), ([True], [True, False])])
def test_paired_drop_refuses_what_does_not_pair(left: list[bool], right: list[bool]) -> None:
    with pytest.raises(ValueError, match="do not pair"):
        paired_drop(np.array(left, dtype=bool), np.array(right, dtype=bool), 0.95)


# -- superiority -------------------------------------------------------------------------------


@pytest.mark.parametrize("discordant", [1, 5, 12, 60])
@pytest.mark.parametrize("level", [0.01, 0.05, 0.2])
def test_superiority_errs_no_oftener_than_stated(discordant: int, level: float) -> None:
    """Given the discordant rows, gains of an equal model are binomial with one half."""
    errors = [g for g in range(discordant + 1) if paired_superiority_p(discordant - g, g) <= level]
    assert stats.binom.pmf(errors, discordant, 0.5).sum() <= level


def test_superiority_without_discordant_rows_is_no_evidence() -> None:
    assert paired_superiority_p(0, 0) == 1.0


def test_superiority_agrees_with_hand_calculation() -> None:
    assert paired_superiority_p(0, 5) == pytest.approx(0.5**5)
    assert paired_superiority_p(1, 4) == pytest.approx(6 / 32)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(0, 100))
def test_superiority_falls_with_gains_and_rises_with_losses(lost: int, gained: int) -> None:
    p = paired_superiority_p(lost, gained)
    assert paired_superiority_p(lost, gained + 1) <= p <= paired_superiority_p(lost + 1, gained)


# -- rows --------------------------------------------------------------------------------------


def test_rows_needed_gives_the_stated_power() -> None:
    """At that many rows an equal candidate passes the drop bound about as often as stated."""
    margin, loss, gain = 0.05, 0.04, 0.04
    rows = rows_needed(loss + gain, margin, 0.95, power=0.8)
    passed = 0.0
    for gained in range(18):
        most = _most_lost_within(margin, gained, rows)
        others = stats.binom.cdf(most, rows - gained, loss / (1 - gain))
        passed += stats.binom.pmf(gained, rows, gain) * others
    assert 0.74 <= passed <= 0.86


def _most_lost_within(margin: float, gained: int, rows: int) -> int:
    low, high = -1, gained + 16  # a drop of 16 rows of 198 is beyond any bound within 5%
    while high - low > 1:
        middle = (low + high) // 2
        within = drop_upper_bound(middle, gained, rows, 0.95) <= margin
        low, high = (middle, high) if within else (low, middle)
    return low


@settings(deadline=None)
@given(st.floats(0.001, 0.3), st.floats(0.8, 0.99))
def test_rows_needed_suffice_where_nothing_is_lost(margin: float, confidence: float) -> None:
    rows = rows_needed(0.0, margin, confidence)
    assert (1 - margin) ** rows <= (1 - confidence) * (1 + 1e-9)
    assert (1 - margin) ** (rows - 1) > (1 - confidence) * (1 - 1e-9)


def test_rows_needed_follows_the_formula() -> None:
    expected = (1.6448536 + 0.8416212) ** 2 * 0.1 / 0.01**2
    assert rows_needed(0.1, 0.01, 0.95) == math.ceil(expected)


# -- quantiles ---------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], np.ndarray]
SHAPES: dict[str, tuple[Draw, Callable[[float], float]]] = {
    "exponential": (lambda rng, n: rng.exponential(1.0, n), lambda q: -math.log1p(-q)),
    "lognormal": (lambda rng, n: rng.lognormal(0.0, 1.5, n), lambda q: stats.lognorm.ppf(q, 1.5)),
    "uniform": (lambda rng, n: rng.uniform(0.0, 1.0, n), lambda q: q),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("rows", "q"), [(12, 0.5), (90, 0.95), (250, 0.95), (250, 0.1)])
def test_quantile_interval_covers_in_simulation(shape: str, rows: int, q: float) -> None:
    draw, quantile = SHAPES[shape]
    rng = np.random.default_rng(11)
    truth, hits, above = quantile(q), 0, 0
    for _ in range(REPLICATES):
        interval = quantile_interval(draw(rng, rows), q, 0.95)
        hits += interval.low <= truth <= interval.high
        above += interval.high < truth
    assert hits / REPLICATES >= least_share(0.95)
    assert 1 - above / REPLICATES >= least_share(0.975)


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_quantile_interval_covers_with_repeats_of_a_row(spread: float) -> None:
    """Rows differ and repeats add noise of their own: none, a little, or most of the variance."""
    rng = np.random.default_rng(3)
    truth = math.exp(stats.norm.ppf(0.95) * math.hypot(1.0, spread))
    hits = 0
    for _ in range(REPLICATES):
        noise = spread * rng.normal(size=(100, 3))
        samples = np.exp(rng.normal(size=(100, 1)) + noise)
        interval = quantile_interval(samples, 0.95, 0.9)
        hits += interval.low <= truth <= interval.high
    assert hits / REPLICATES >= least_share(0.9)


@settings(deadline=None)
@given(
    st.lists(st.floats(0.01, 1e3), min_size=1, max_size=200),
    st.floats(0.05, 0.95),
    st.floats(0.5, 0.9),
)
def test_quantile_interval_holds_the_estimate_and_widens(
    values: list[float], q: float, confidence: float
) -> None:
    samples = np.array(values)
    narrow = quantile_interval(samples, q, confidence)
    wide = quantile_interval(samples, q, (confidence + 1) / 2)
    assert samples.min() <= wide.low <= narrow.low <= narrow.high <= wide.high <= samples.max()
    assert wide.low <= narrow.value <= wide.high or len(values) < 5


@pytest.mark.parametrize(("q", "confidence"), [(0.95, 0.95), (0.95, 0.9), (0.5, 0.99), (0.1, 0.8)])
def test_quantile_rows_needed_is_where_both_ends_exist(q: float, confidence: float) -> None:
    rows = quantile_rows_needed(q, confidence)
    ends = quantile_interval(np.arange(float(rows)), q, confidence)
    extreme = max(q, 1 - q)
    assert extreme**rows <= (1 - confidence) / 2 < extreme ** (rows - 1)
    assert ends.low >= 0.0
    assert ends.high <= rows - 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: clopper_pearson(3, 2, 0.95),
        lambda: clopper_pearson(0, 0, 0.95),
        lambda: clopper_pearson(1, 2, 1.0),
        lambda: drop_upper_bound(3, 3, 5, 0.95),
        lambda: drop_upper_bound(0, 0, 5, 0.0),
        lambda: paired_superiority_p(-1, 2),
        lambda: rows_needed(0.1, 0.0, 0.95),
        lambda: rows_needed(1.5, 0.1, 0.95),
        lambda: quantile_interval(np.array([]), 0.5, 0.95),
        lambda: quantile_interval(np.array([1.0]), 1.0, 0.95),
    ],
)
def test_impossible_arguments_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"\d"):
        call()

"""The evidence of a trial: the stated error holds however often it is looked at, and what is bad
or fine is seen in a reasonable number of answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.evidence import (
    LATENCY_MARGIN,
    QUESTIONS,
    Bounds,
    Floats,
    advance,
    evidence,
    start,
    totals,
)

ALPHA = 0.05
TRIALS = 2000
ANSWERS = 1500
BOUNDS = Bounds.of(error_margin=0.02, agreement=0.9)
DIFFERENCES = st.sampled_from([-1.0, 0.0, 1.0])
# Three standard errors of a share of ALPHA over TRIALS.
ALLOWED = ALPHA + 3.0 * np.sqrt(ALPHA * (1.0 - ALPHA) / TRIALS)


def paired(rng: np.random.Generator, ours: float, theirs: float, size: tuple[int, ...]) -> Floats:
    """Independent events here minus events there."""
    return (rng.random(size) < ours).astype(float) - (rng.random(size) < theirs)


def traffic(
    seed: int,
    errors: tuple[float, float],
    slow: tuple[float, float],
    differ: float,
    answers: int = ANSWERS,
    trials: int = TRIALS,
) -> Floats:
    """badness (answers, trials, questions) of bundles with these rates (on trial, stable)."""
    rng = np.random.default_rng(seed)
    size = (answers, trials)
    columns = [paired(rng, *errors, size), paired(rng, *slow, size)]
    columns.append((rng.random(size) < differ).astype(float))
    return np.stack(columns, axis=-1)


def reached(badness: Floats, bounds: Bounds = BOUNDS) -> Floats:
    """When each trial's evidence first stands at 1 / ALPHA, looked at after every answer:
    (trials, sides), infinite where never."""
    log_wealth, bets = start(badness.shape[1:2]), bounds.bets()
    first = np.full((badness.shape[1], 2), np.inf)
    for at, row in enumerate(badness, start=1):
        advance(log_wealth, at, row, bounds, bets)
        over = totals(evidence(log_wealth, at), bounds) >= 1.0 / ALPHA
        first[over & np.isinf(first)] = at
    return first


@pytest.fixture(scope="module")
def on_the_edge() -> Floats:
    """Exactly as bad as is allowed in all three: neither verdict may come often."""
    return reached(traffic(1, (0.03, 0.01), (0.05 + LATENCY_MARGIN, 0.05), 0.1))


def test_a_bundle_as_good_as_allowed_is_rarely_rolled_back(on_the_edge: Floats) -> None:
    assert np.isfinite(on_the_edge[:, 0]).mean() <= ALLOWED


def test_a_bundle_as_bad_as_forbidden_rarely_passes(on_the_edge: Floats) -> None:
    assert np.isfinite(on_the_edge[:, 1]).mean() <= ALLOWED


@pytest.mark.parametrize(
    "rates",
    [
        {"errors": (0.03, 0.01), "slow": (0.0, 0.0), "differ": 0.0},
        {"errors": (0.0, 0.0), "slow": (0.1, 0.05), "differ": 0.0},
        {"errors": (0.0, 0.0), "slow": (0.0, 0.0), "differ": 0.1},
    ],
)
def test_one_bad_question_is_enough_not_to_pass(rates: dict[str, object]) -> None:
    passed = np.isfinite(reached(traffic(2, **rates))[:, 1])  # type: ignore[arg-type]
    assert passed.mean() <= ALLOWED


def test_traffic_that_changes_does_not_mislead() -> None:
    """Both bundles fail more for a while and get slower: the difference stays what is allowed."""
    calm = traffic(3, (0.03, 0.01), (0.1, 0.05), 0.1, answers=400)
    storm = traffic(4, (0.32, 0.30), (0.55, 0.50), 0.1, answers=400)
    first = reached(np.concatenate([calm, storm, calm]))
    assert np.isfinite(first).mean(axis=0).max() <= ALLOWED


@pytest.mark.parametrize(
    ("rates", "most_answers"),
    [
        ({"errors": (0.2, 0.0), "slow": (0.05, 0.05), "differ": 0.03}, 100),
        ({"errors": (0.0, 0.0), "slow": (0.5, 0.05), "differ": 0.03}, 100),
        ({"errors": (0.0, 0.0), "slow": (0.05, 0.05), "differ": 0.4}, 100),
        ({"errors": (0.0, 0.0), "slow": (0.05, 0.05), "differ": 0.2}, 300),
    ],
)
def test_a_bad_bundle_is_seen_soon(rates: dict[str, object], most_answers: int) -> None:
    first = reached(traffic(5, answers=400, trials=400, **rates))  # type: ignore[arg-type]
    assert np.quantile(first[:, 0], 0.9) <= most_answers
    assert np.isfinite(first[:, 1]).mean() <= ALPHA


def test_a_good_bundle_passes_and_stays() -> None:
    first = reached(traffic(6, (0.001, 0.001), (0.05, 0.05), 0.02, trials=400))
    assert np.quantile(first[:, 1], 0.9) <= 800
    assert np.isfinite(first[:, 0]).mean() <= ALPHA


def test_a_bundle_that_gets_worse_after_a_long_good_time_is_still_found() -> None:
    good = traffic(8, (0.0, 0.0), (0.05, 0.05), 0.02, answers=2000, trials=50)
    bad = traffic(9, (0.3, 0.0), (0.05, 0.05), 0.02, answers=200, trials=50)
    first = reached(np.concatenate([good, bad]))[:, 0]
    assert (first > 2000).all()
    assert np.quantile(first, 0.9) <= 2150


def test_without_a_floor_agreement_decides_nothing() -> None:
    bounds = Bounds.of(error_margin=0.02, agreement=None)
    badness = traffic(7, (0.0, 0.0), (0.05, 0.05), 1.0, trials=200)
    badness[..., 2] = np.nan
    first = reached(badness, bounds)
    assert np.isfinite(first[:, 1]).mean() > 0.9
    assert np.isinf(first[:, 0]).mean() > 0.9


def test_answers_that_say_nothing_move_nothing() -> None:
    log_wealth = start()
    assert evidence(log_wealth, 0) == pytest.approx(np.ones((2, 3)))
    for at in range(1, 10):
        advance(log_wealth, at, np.full(len(QUESTIONS), np.nan), BOUNDS, BOUNDS.bets())
        assert evidence(log_wealth, at) == pytest.approx(np.ones((2, 3)))


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.001, 0.9),
    st.floats(0.01, 0.99),
    st.lists(
        st.tuples(
            st.sampled_from([-1.0, 0.0, 1.0]), st.sampled_from([-1.0, 0.0, 1.0]), st.booleans()
        ),
        max_size=200,
    ),
)
def test_evidence_is_finite_and_never_negative(
    margin: float, floor: float, rows: list[tuple[float, float, bool]]
) -> None:
    bounds = Bounds.of(margin, floor)
    log_wealth = start()
    for at, row in enumerate(rows, start=1):
        advance(log_wealth, at, np.array(row, dtype=float), bounds, bounds.bets())
    found = evidence(log_wealth, len(rows))
    assert np.isfinite(found).all()
    assert (found >= 0.0).all()


@settings(deadline=None, max_examples=60)
@given(st.floats(0.001, 0.9), st.floats(0.01, 0.99))
def test_no_bet_wins_on_average_where_its_side_is_wrong(margin: float, floor: float) -> None:
    """E[K] <= 1 for every distribution on the ends whose mean is the bound, the worst case."""
    bounds = Bounds.of(margin, floor)
    bets = bounds.bets()
    high = np.ones(len(QUESTIONS))
    share = (bounds.bound - bounds.low) / (high - bounds.low)
    mean = np.zeros_like(bets)
    for value, chance in ((high, share), (bounds.low, 1.0 - share)):
        excess = value - bounds.bound
        payoff = np.stack([excess, -excess])[..., None]
        mean += chance[None, :, None] * (1.0 + bets * payoff)
    assert mean == pytest.approx(np.ones_like(mean), abs=1e-9)

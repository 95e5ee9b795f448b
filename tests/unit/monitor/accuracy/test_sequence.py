"""Bounds that hold at all times at once."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.accuracy.sequence import ETAS, Renewed, log_wealth, lower_bound, upper_bound

ALPHA = 0.05
counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_the_bounds_hold_the_estimate_between_them(count: tuple[int, int]) -> None:
    wins, labels = count
    lower, upper = lower_bound(wins, labels, 0.025), upper_bound(wins, labels, 0.025)
    assert 0.0 <= lower <= wins / labels <= upper <= 1.0
    assert lower_bound(labels - wins, labels, 0.025) == pytest.approx(1.0 - upper)


@given(counts, st.floats(0.001, 0.4))
def test_a_bound_is_where_the_wealth_reaches_one_in_alpha(
    count: tuple[int, int], alpha: float
) -> None:
    wins, labels = count
    upper = upper_bound(wins, labels, alpha)
    assert log_wealth(upper, wins, labels) >= math.log(1.0 / alpha) - 1e-6 or upper == 1.0
    if wins / labels < upper < 1.0:
        assert log_wealth(upper - 1e-4, wins, labels) < math.log(1.0 / alpha)


@pytest.mark.parametrize("labels", [0, 1])
def test_no_labels_and_single_ones_say_nothing(labels: int) -> None:
    for wins in range(labels + 1):
        assert upper_bound(wins, labels, 0.025) == 1.0
        assert lower_bound(wins, labels, 0.025) == 0.0


def test_the_bounds_are_worth_having() -> None:
    """What 0.9 of so many labels shows; a fixed-sample interval is at 0.849 to 0.938 with 200."""
    found = {
        n: (lower_bound(9 * n // 10, n, 0.025), upper_bound(9 * n // 10, n, 0.025))
        for n in (50, 200, 1000)
    }
    assert found[50][1] < 0.99
    assert 0.81 < found[200][0] < found[200][1] < 0.96
    assert found[1000][1] - found[1000][0] < 0.075
    assert upper_bound(140, 200, 0.025) < 0.8


def mixed_wealth(wins: np.ndarray, means: np.ndarray) -> np.ndarray:
    """log wealth against the running mean of `means`, at every label: (streams, labels)."""
    at = np.arange(1, wins.shape[-1] + 1)
    running = means.cumsum(axis=-1) / at
    psi = np.log1p(running[..., None] * np.expm1(-ETAS))
    bets = -ETAS * wins.cumsum(axis=-1)[..., None] - at[:, None] * psi
    top = bets.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(bets - top).mean(axis=-1)))


def means_of(name: str, labels: int) -> np.ndarray:
    """The accuracy of each label's row."""
    at = np.arange(labels)
    return {
        "steady": np.full(labels, 0.9),
        "half": np.full(labels, 0.5),
        "nearly perfect": np.full(labels, 0.99),
        "falling": np.linspace(0.97, 0.4, labels),
        "a jump": np.where(at < labels // 2, 0.95, 0.5),
        "from row to row": np.where(at % 2 == 0, 0.99, 0.6),
    }[name]


@pytest.mark.parametrize(
    "name", ["steady", "half", "nearly perfect", "falling", "a jump", "from row to row"]
)
def test_at_most_alpha_of_all_streams_ever_leave_their_bounds(name: str) -> None:
    """2,000 streams of 256 labels, looked at after each; both sides at alpha / 2."""
    rng = np.random.default_rng(21)
    means = means_of(name, 256)
    x = rng.random((2_000, 256)) < means
    limit = math.log(2.0 / ALPHA)
    left = (mixed_wealth(x, means) >= limit) | (mixed_wealth(~x, 1.0 - means) >= limit)
    assert left.any(axis=1).mean() <= ALPHA


def test_the_average_of_a_falling_accuracy_is_what_is_covered() -> None:
    """The very function that serves, on a sample of streams."""
    rng = np.random.default_rng(22)
    means = means_of("falling", 256)
    running = means.cumsum() / np.arange(1, 257)
    missed = 0
    for _ in range(60):
        renewed, outside = Renewed(512), False
        for at, right in enumerate(rng.random(256) < means):
            renewed.add(bool(right))
            if at % 8 == 7:
                lower, upper = renewed.bounds(ALPHA)
                outside |= not lower <= running[at] <= upper
        missed += outside
    assert missed <= 6


def test_the_order_of_labels_does_not_matter() -> None:
    rng = np.random.default_rng(23)
    right = rng.random(200) < 0.8
    one, other = Renewed(512), Renewed(512)
    for x in right:
        one.add(bool(x))
    for x in rng.permutation(right):
        other.add(bool(x))
    assert one.bounds(ALPHA) == other.bounds(ALPHA)


def test_old_labels_are_let_go() -> None:
    renewed = Renewed(100)
    for _ in range(1_000):
        renewed.add(True)
    assert renewed.labels == 200
    for _ in range(200):
        renewed.add(False)
    assert (renewed.wins, renewed.labels) == (0, 200), "between the last 100 and 200 labels"
    assert renewed.bounds(ALPHA)[1] < 0.1


@given(st.lists(st.booleans(), max_size=300), st.data())
@settings(max_examples=60)
def test_a_correction_is_as_if_it_had_been_said_at_once(
    right: list[bool], data: st.DataObject
) -> None:
    corrected, meant = Renewed(40), Renewed(40)
    wrong = data.draw(st.lists(st.booleans(), min_size=len(right), max_size=len(right)))
    numbers = [corrected.add(x) for x in wrong]
    for number, said, truth in zip(numbers, wrong, right, strict=True):
        if said != truth:
            corrected.correct(number, truth)
    for truth in right:
        meant.add(truth)
    assert corrected.state() == meant.state()


@given(st.lists(st.booleans(), max_size=150), st.lists(st.booleans(), max_size=50))
@settings(max_examples=60)
def test_it_goes_on_from_its_state(before: list[bool], after: list[bool]) -> None:
    one, other = Renewed(30), Renewed(30)
    for x in before:
        one.add(x)
    other.restore(one.state())
    for x in after:
        assert one.add(x) == other.add(x)
    assert one.state() == other.state()


@pytest.mark.parametrize("state", [[5], [5, 0], [5, 0, 6], [5, 0, 2, 4], [9, 0, 1, 2, 3, 4, 5]])
def test_counts_that_do_not_fit_are_refused(state: list[int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Renewed(30).restore(state)

"""Deciles of a reference, and what is counted in them."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from monitor.deciles import BINS, count_bins, decile_edges
from monitor.psi import psi, psi_threshold

VALUES = st.lists(
    st.one_of(st.floats(allow_nan=False), st.integers(0, 3).map(float), st.just(float("nan"))),
    max_size=60,
)


@given(values=VALUES, others=VALUES)
@example(values=[-1.7976931348623157e308], others=[])
def test_every_known_value_is_counted_in_one_bin(values: list[float], others: list[float]) -> None:
    edges = decile_edges(np.array(values, dtype=float))
    assert (np.diff(edges) > 0.0).all()
    assert len(edges) < 2 * BINS
    other = np.array(others, dtype=float)
    counts = count_bins(other, edges)
    assert counts.shape == (len(edges) + 1,)
    assert counts.sum() == (~np.isnan(other)).sum()


def test_bins_of_many_different_values_hold_a_tenth_each() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    counts = count_bins(values, decile_edges(values))
    assert counts.tolist() == [500] * BINS


def test_a_value_that_many_rows_share_has_a_bin_of_its_own() -> None:
    edges = decile_edges(np.array([0.0] * 50 + list(range(1, 51))))
    assert count_bins(np.zeros(7), edges).max() == 7
    assert count_bins(np.array([-1.0, 0.0, 0.5]), edges).tolist()[:3] == [1, 1, 1]
    constant = decile_edges(np.full(9, 4.0))
    assert count_bins(np.array([3.0, 4.0, 5.0]), constant).tolist() == [1, 1, 1]
    assert decile_edges(np.array([np.nan])).size == 0


def test_the_limit_of_psi_holds_for_bins_of_the_reference() -> None:
    """Deciles of the reference itself, a hundredth of the reports at most; four deviations."""
    rng = np.random.default_rng(1)
    over = 0
    for _ in range(1_000):
        reference, recent = rng.normal(size=2_000), rng.normal(size=500)
        edges = decile_edges(reference)
        found = psi(count_bins(recent, edges), count_bins(reference, edges))
        over += float(found) > psi_threshold(500, 2_000, BINS, 0.01)
    assert over / 1_000 <= 0.01 + 4.0 * np.sqrt(0.01 * 0.99 / 1_000)
    assert psi_threshold(500, 2_000, BINS, 0.01) == pytest.approx(21.67 / 400.0, rel=1e-3)

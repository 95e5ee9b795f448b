"""PSI and its threshold: what is exceeded without drift as seldom as stated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.psi import bin_ratios, chi_squared_quantile, psi, psi_threshold

counts = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("probability", "degrees", "quantile"),
    # Tabulated values, e.g. Abramowitz and Stegun, table 26.8.
    [
        (0.99, 9, 21.666),
        (0.95, 9, 16.919),
        (0.99, 1, 6.635),
        (0.95, 1, 3.841),
        (0.5, 2, 1.386),
        (0.999, 15, 37.697),
        (0.99, 100, 135.807),
    ],
)
def test_quantiles_are_those_of_the_tables(
    probability: float, degrees: int, quantile: float
) -> None:
    assert chi_squared_quantile(probability, degrees) == pytest.approx(quantile, abs=6e-4)


@pytest.mark.parametrize(("rows", "reference_rows", "bins"), [(200, 500, 10), (2000, 1000, 10)])
def test_the_threshold_is_exceeded_as_seldom_as_stated(
    rows: int, reference_rows: int, bins: int
) -> None:
    rng = np.random.default_rng(0)
    repeats, level = 4_000, 0.05
    share = np.full(bins, 1.0 / bins)
    reference = rng.multinomial(reference_rows, share, size=repeats)
    recent = rng.multinomial(rows, share, size=repeats)
    threshold = psi_threshold(rows, reference_rows, bins, level)
    exceeded = np.mean([psi(r, q) > threshold for r, q in zip(recent, reference, strict=True)])
    # 4 deviations of 4,000 repeats are 0.014; the approximation itself is good to 0.01.
    assert abs(exceeded - level) < 0.02


def test_the_fixed_threshold_is_exceeded_at_small_samples_without_drift() -> None:
    assert psi_threshold(100, 1000, 10) > 0.2
    assert psi_threshold(100_000, 10_000, 10) < 0.003


def test_uneven_bins_keep_the_level() -> None:
    rng = np.random.default_rng(1)
    share = np.array([0.82, 0.1, 0.08])
    threshold = psi_threshold(300, 600, 3, 0.05)
    found = [
        float(psi(rng.multinomial(300, share), rng.multinomial(600, share))) > threshold
        for _ in range(3_000)
    ]
    assert 0.03 < np.mean(found) < 0.07


def test_a_shift_exceeds_the_threshold() -> None:
    moved = psi([150, 50, 50, 50], [100, 100, 100, 100])
    assert moved > psi_threshold(300, 400, 4)


def test_one_bin_or_no_row_is_no_comparison() -> None:
    assert psi_threshold(100, 100, 1) == math.inf
    assert psi_threshold(0, 100, 10) == math.inf


@given(counts)
def test_the_same_counts_have_no_distance(same: list[int]) -> None:
    assert float(psi(same, same)) == pytest.approx(0.0)
    assert bin_ratios(same).sum() == pytest.approx(1.0)


@given(st.data(), counts)
def test_no_distance_is_negative_or_infinite(data: st.DataObject, first: list[int]) -> None:
    second = data.draw(st.lists(st.integers(0, 500), min_size=len(first), max_size=len(first)))
    assert 0.0 <= float(psi(first, second)) < math.inf


def test_replicas_add_up() -> None:
    one, other = np.array([5, 10, 30]), np.array([7, 9, 11])
    both = np.stack([one + other, one])
    found = psi(both, [20, 20, 20])
    assert found.shape == (2,)
    assert found[0] == pytest.approx(float(psi(one + other, [20, 20, 20])))

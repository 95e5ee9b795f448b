"""The tests' statistics against scipy's, and that their levels hold."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from scipy import stats

from monitor.two_samples import chi_squared_tail, holm, kolmogorov_tail, ks_test

SMALL = st.lists(st.integers(0, 6), min_size=1, max_size=30)


@given(first=SMALL, second=SMALL)
def test_distance_and_exact_p_value_are_scipys_with_ties_and_without(
    first: list[int], second: list[int]
) -> None:
    reference, values = np.sort(np.array(first, float)), np.array(second, float)
    found = ks_test(reference, values)
    try:
        known = stats.ks_2samp(reference, values, method="exact")
    except RuntimeWarning:  # its own count fails for a few sizes, and it takes the asymptotic tail
        reject()
    assert found.distance == pytest.approx(known.statistic)
    assert found.p_value == pytest.approx(known.pvalue, abs=1e-9)


@pytest.mark.parametrize(("n", "m"), [(400, 500), (700, 600), (3_000, 1_000), (20_000, 5_000)])
def test_p_values_of_many_rows_are_near_scipys(n: int, m: int) -> None:
    rng = np.random.default_rng(n)
    reference, values = np.sort(rng.normal(size=n)), rng.normal(0.08, size=m)
    found, known = ks_test(reference, values), stats.ks_2samp(reference, values)
    assert found.distance == pytest.approx(known.statistic)
    assert found.p_value == pytest.approx(known.pvalue, rel=0.1)


def test_nothing_to_compare_says_nothing() -> None:
    assert ks_test(np.empty(0), np.ones(3)).p_value == 1.0
    assert ks_test(np.ones(3), np.empty(0)).p_value == 1.0
    assert ks_test(np.ones(3), np.ones(5)) == ks_test(np.ones(1), np.ones(1))
    assert ks_test(np.array([-np.inf, 0.0]), np.array([np.inf, 0.0])).distance == 0.5


@pytest.mark.parametrize("n", [100, 1_500])
def test_the_level_of_the_test_holds(n: int) -> None:
    """Of 1,500 tests without drift a share of alpha is significant; four deviations."""
    rng = np.random.default_rng(3)
    p = [ks_test(np.sort(rng.normal(size=n)), rng.normal(size=60)).p_value for _ in range(1_500)]
    for alpha in (0.01, 0.05, 0.2):
        most = alpha + 4.0 * np.sqrt(alpha * (1.0 - alpha) / 1_500)
        assert 0.4 * alpha <= np.mean(np.array(p) <= alpha) <= most


def test_kolmogorovs_distribution_is_scipys() -> None:
    for x in (0.01, 0.19, 0.21, 0.5, 1.0, 1.6, 3.0):
        assert kolmogorov_tail(x) == pytest.approx(stats.kstwobign.sf(x), abs=1e-12)


@given(x=st.floats(0.0, 500.0), degrees=st.integers(1, 30))
def test_the_chi_squared_tail_is_scipys(x: float, degrees: int) -> None:
    assert chi_squared_tail(x, degrees) == pytest.approx(stats.chi2.sf(x, degrees), abs=1e-11)


def test_holm_steps_down_and_keeps_the_shape() -> None:
    adjusted = holm(np.array([[0.01, 0.04], [0.03, 0.005]]))
    assert adjusted == pytest.approx(np.array([[0.03, 0.06], [0.06, 0.02]]))
    assert holm(np.empty((0, 2))).shape == (0, 2)


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
def test_holm_is_between_the_p_value_and_bonferroni(p: list[float]) -> None:
    values = np.array(p)
    adjusted = holm(values)
    assert (adjusted >= values).all()
    assert (adjusted <= np.minimum(values * len(p), 1.0) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(values, kind="stable")]) >= 0.0).all()


def test_the_family_of_corrected_tests_keeps_its_level() -> None:
    """Uniform p-values, half of them one and the same: with any dependence at most alpha."""
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(2_000):
        p = rng.random(20)
        p[:10] = p[0]
        hits += bool((holm(p) <= 0.1).any())
    assert hits / 2_000 <= 0.1 + 4.0 * np.sqrt(0.1 * 0.9 / 2_000)

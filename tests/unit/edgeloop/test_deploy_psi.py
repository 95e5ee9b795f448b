"""How often PSI passes the threshold of deploy/prometheus/recording.yml without any drift.

The recording's own arithmetic is tested by promtool; here its formula is simulated.
"""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

STREAMS = 20_000


def quantile99(freedom: int) -> float:
    """As model_feature:edgeloop_psi_threshold:6h has it (Wilson and Hilferty)."""
    spread = 2.0 / (9.0 * freedom)
    return freedom * (1.0 - spread + 2.3263 * math.sqrt(spread)) ** 3


def threshold_ratios(bins: int, rows: int, reference_rows: int) -> NDArray[np.float64]:
    """PSI over its threshold where live and reference rows come from the same bins: (STREAMS,)."""
    rng = np.random.default_rng(bins * rows + reference_rows)
    even = np.full(bins, 1.0 / bins)
    counts = rng.multinomial(rows, even, STREAMS)
    reference = rng.multinomial(reference_rows, even, STREAMS)
    p = (counts + 0.5) / (rows + 0.5 * bins)
    q = (reference + 0.5) / (reference_rows + 0.5 * bins)
    psi = np.sum((p - q) * np.log(p / q), axis=1)
    found: NDArray[np.float64] = psi / (quantile99(bins - 1) * (1 / rows + 1 / reference_rows))
    return found


@pytest.mark.parametrize("freedom", [*range(1, 30), 76, 149])
def test_the_quantile_is_chi_squareds(freedom: int) -> None:
    assert quantile99(freedom) == pytest.approx(chi2.ppf(0.99, freedom), rel=0.01)


@pytest.mark.parametrize("reference_rows", [500, 2_000])
@pytest.mark.parametrize("rows", [100, 1_000, 50_000])
@pytest.mark.parametrize("bins", [2, 10])
def test_one_window_in_a_hundred_passes_the_threshold(
    bins: int, rows: int, reference_rows: int
) -> None:
    ratios = threshold_ratios(bins, rows, reference_rows)
    # Four standard errors of 20,000 streams at 1% are .003.
    assert 0.006 < np.mean(ratios > 1.0) < 0.014
    # The alert's factor of two: one of 3,500 with two bins, of half a million with ten.
    assert np.mean(ratios > 2.0) < (0.001 if bins == 2 else 0.0002)


def test_the_usual_threshold_means_nothing_without_a_number_of_rows() -> None:
    ratios = threshold_ratios(bins=10, rows=100, reference_rows=2_000)
    psi = ratios * quantile99(9) * (1 / 100 + 1 / 2_000)
    assert np.mean(psi > 0.1) > 0.3

"""The tail parts: bets on how often a score is high, whose mean without drift is at most 1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.tails import BETS, MARGIN_DEVIATIONS, MEMBERS, SHARES, fit_tails, payoffs

scores = arrays(np.float64, (2, 50), elements=st.floats(-1.0, 1.0))
rates = arrays(np.float64, (len(SHARES),), elements=st.floats(0.001, 1.0))


@given(scores)
def test_a_tail_rate_is_never_below_the_observed_share(found: np.ndarray) -> None:
    tails = fit_tails(found)
    observed = np.mean(found[:, None, :] > tails.thresholds[:, :, None], axis=-1)
    assert (tails.rates >= observed).all()
    assert (tails.rates > 0.0).all()


@given(scores)
def test_rarer_tails_begin_higher(found: np.ndarray) -> None:
    assert (np.diff(fit_tails(found).thresholds, axis=-1) <= 0.0).all()


def test_thresholds_are_the_quantiles_and_rates_carry_the_margin() -> None:
    tails = fit_tails(np.arange(1000.0)[None])
    assert tails.thresholds[0] == pytest.approx([989.01, 949.05, 799.2])
    share = np.array(SHARES)
    deviation = np.sqrt(share * (1.0 - share) / 1000.0)
    assert tails.rates[0] == pytest.approx(share + MARGIN_DEVIATIONS * deviation)


def test_rows_that_hang_together_widen_the_margin() -> None:
    found = np.arange(1000.0)[None]
    plain, wide = fit_tails(found), fit_tails(found, 4.0)
    share = np.array(SHARES)
    assert wide.rates - share == pytest.approx(2.0 * (plain.rates - share))


def test_tails_of_many_references_are_those_of_each() -> None:
    many = np.random.default_rng(0).normal(size=(5, 2, 80))
    together = fit_tails(many)
    for index, one in enumerate(many):
        assert (together.thresholds[index] == fit_tails(one).thresholds).all()
        assert (together.rates[index] == fit_tails(one).rates).all()


@given(rates)
def test_no_member_gains_where_the_tail_is_as_frequent_as_its_rate(found: np.ndarray) -> None:
    exceeded = payoffs(np.ones(len(SHARES), dtype=bool), found).reshape(len(SHARES), len(BETS))
    quiet = payoffs(np.zeros(len(SHARES), dtype=bool), found).reshape(len(SHARES), len(BETS))
    assert (quiet >= 0.0).all()
    assert (exceeded >= quiet).all()
    rate = found[:, None]
    assert rate * exceeded + (1.0 - rate) * quiet == pytest.approx(1.0)


@given(rates, arrays(np.bool_, (len(SHARES), 4, 5)))
def test_many_streams_earn_what_each_would(found: np.ndarray, exceeded: np.ndarray) -> None:
    together = payoffs(exceeded, found[:, None, None])
    assert together.shape == (MEMBERS, 4, 5)
    for row in range(4):
        for stream in range(5):
            assert (together[:, row, stream] == payoffs(exceeded[:, row, stream], found)).all()

"""The e-processes are what they claim to be: bets whose mean without drift is at most 1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.eprocess import (
    BETS,
    EVIDENCE_CAP,
    LEVELS,
    MEMBERS,
    PARTS,
    TAIL_SHARES,
    advance,
    fit_tails,
    payoffs,
    run_streams,
    tail_levels,
)

SHAPE = (len(PARTS), len(TAIL_SHARES))
scores = arrays(np.float64, (2, 50), elements=st.floats(-1.0, 1.0))
rates = arrays(np.float64, SHAPE, elements=st.floats(0.001, 1.0))


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
    found = np.arange(1000.0)[None].repeat(2, axis=0)
    tails = fit_tails(found)
    assert tails.thresholds[0] == pytest.approx([989.01, 949.05, 799.2])
    share = np.array([0.01, 0.05, 0.2])
    assert tails.rates[0] == pytest.approx(share + 3.0 * np.sqrt(share * (1.0 - share) / 1000.0))


def test_tails_of_many_references_are_those_of_each() -> None:
    many = np.random.default_rng(0).normal(size=(5, 2, 80))
    together = fit_tails(many)
    for index, one in enumerate(many):
        assert (together.thresholds[index] == fit_tails(one).thresholds).all()
        assert (together.rates[index] == fit_tails(one).rates).all()


@given(rates)
def test_no_member_gains_where_the_tail_is_as_frequent_as_its_rate(found: np.ndarray) -> None:
    table = payoffs(found).reshape(len(PARTS), LEVELS, len(TAIL_SHARES), len(BETS))
    assert (table >= 0.0).all()
    for index in range(len(TAIL_SHARES)):
        rate = found[:, index, None]
        exceeded = table[:, LEVELS - 1, index]
        quiet = table[:, 0, index]
        assert rate * exceeded + (1.0 - rate) * quiet == pytest.approx(1.0)


@given(rates)
def test_a_higher_level_never_earns_less(found: np.ndarray) -> None:
    assert (np.diff(payoffs(found), axis=1) >= 0.0).all()


def test_levels_count_the_thresholds_that_are_exceeded() -> None:
    thresholds = np.array([[0.9, 0.5, 0.1], [3.0, 2.0, 1.0]])
    seen = np.array([[0.9, 0.5], [0.95, 3.5], [0.0, 1.5]])
    assert tail_levels(seen, thresholds).tolist() == [[2, 0], [3, 3], [0, 1]]


@given(st.lists(st.integers(0, LEVELS - 1), min_size=1, max_size=60))
@settings(max_examples=30)
def test_a_stream_runs_as_it_would_row_by_row(rows: list[int]) -> None:
    table = payoffs(np.array([[0.02, 0.07, 0.25], [0.03, 0.08, 0.26]]))
    levels = np.array([[[level, LEVELS - 1 - level]] for level in rows], dtype=np.uint8)
    together = run_streams(table[None], levels, np.zeros((1, len(PARTS), MEMBERS)))
    evidence = np.zeros((len(PARTS), MEMBERS))
    for at, (novelty, confidence) in enumerate(levels[:, 0]):
        advance(evidence, table[[0, 1], [novelty, confidence]])
        assert together[at, 0] == pytest.approx(np.log(evidence.mean()), rel=1e-12)


def test_evidence_stops_at_its_cap() -> None:
    evidence = np.full((2, MEMBERS), EVIDENCE_CAP)
    advance(evidence, np.full((2, MEMBERS), 10.0))
    assert (evidence == EVIDENCE_CAP).all()

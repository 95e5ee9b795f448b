"""The class mix: a bet on classes coming back more often than in the reference."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.class_mix import (
    MEMBERS,
    MOST_KINDS,
    RATES,
    discounts,
    kinds_of_classes,
    payoffs,
    ratios,
    recent_block,
    roll,
    roll_block,
)
from monitor.witness import LAG

counts = st.lists(st.integers(0, 200), min_size=2, max_size=30).filter(any)


@given(counts, st.integers(0, 2**32 - 1))
def test_a_bet_on_the_reference_itself_is_fair(found: list[int], seed: int) -> None:
    """Whatever the recent mix: the mean over the reference's own ratios is the discount."""
    ratio = ratios(np.array(found)).astype(np.float64)
    recent = np.random.default_rng(seed).dirichlet(np.ones(len(found)), size=len(RATES))
    earned = payoffs(recent, ratio, np.ones(2, dtype=np.float32))
    assert (earned >= 0.0).all()
    assert earned @ (ratio / ratio.sum()) == pytest.approx(np.ones(MEMBERS), rel=1e-5)


def test_the_discount_covers_the_error_of_the_ratios_twice_over() -> None:
    """Ratios counted on 500 rows, traffic whose ratios lie off by as much: no member gains."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.full(40, 2.0), size=1)[0]
    means = []
    for _ in range(200):
        known = ratios(rng.multinomial(500, true))
        traffic = rng.multinomial(500, true) / 500
        recent = np.repeat(traffic[None], len(RATES), axis=0)
        means.append(payoffs(recent, known, discounts(40, 500.0)) @ traffic)
    assert (np.mean(means, axis=0) <= 1.0).all()


def test_no_class_has_a_ratio_of_zero_and_ratios_sum_to_one() -> None:
    found = ratios(np.array([[0, 10, 90], [1, 0, 0]]))
    assert (found > 0.0).all()
    assert found.sum(axis=1) == pytest.approx([1.0, 1.0])


def test_classes_that_come_back_pay_and_others_cost() -> None:
    ratio = ratios(np.array([50, 50]))
    recent = np.tile(np.array([0.9, 0.1]), (len(RATES), 1))
    earned = payoffs(recent, ratio, discounts(2, 100.0))
    assert (earned[:, 0] > 1.0).all()
    assert (earned[:, 1] < 1.0).all()


def test_few_classes_are_kinds_of_their_own_and_the_rarest_of_many_share_one() -> None:
    assert kinds_of_classes(np.array([3, 0, 9])).tolist() == [0, 1, 2]
    many = np.arange(400)
    kinds = kinds_of_classes(many)
    assert kinds.max() == MOST_KINDS - 1
    assert kinds[399] == 0
    assert (kinds[:145] == MOST_KINDS - 1).all()
    assert len(set(kinds[146:].tolist())) == 254


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_block_rolls_as_its_rows_would(seed: int) -> None:
    rng = np.random.default_rng(seed)
    olds, kinds = rng.integers(4, size=(2, LAG, 3))
    start = rng.dirichlet(np.ones(4), size=(len(RATES), 3)).astype(np.float32)
    recent, mix = recent_block(start, olds, kinds), start.copy()
    roll_block(mix, olds)
    for stream in range(3):
        alone = start[:, stream].copy()
        for row in range(LAG):
            assert recent[:, row, stream] == pytest.approx(alone[:, kinds[row, stream]], abs=1e-5)
            roll(alone, int(olds[row, stream]))
        assert mix[:, stream] == pytest.approx(alone, abs=1e-5)

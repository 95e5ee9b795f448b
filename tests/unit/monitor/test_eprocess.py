"""How the parts' evidence is put together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from monitor.eprocess import (
    EVIDENCE_CAP,
    MEMBERS,
    advance,
    member_powers,
    member_weights,
    parts_of,
)

ALL = sum(MEMBERS.values())
bets = arrays(np.float64, (ALL, 40), elements=st.floats(0.0, 5.0))


def test_every_part_counts_alike_whatever_its_members() -> None:
    weights = member_weights(tuple(MEMBERS))
    first = 0
    for members in MEMBERS.values():
        assert weights[first : first + members].sum() == pytest.approx(0.25)
        first += members


def test_a_model_of_one_class_has_no_confidence_and_no_mix() -> None:
    assert parts_of(1) == ("witness", "novelty")
    assert parts_of(2) == ("witness", "novelty", "confidence", "class_mix")


@given(bets, st.lists(st.floats(1.0, 20.0), min_size=4, max_size=4))
def test_rows_that_count_for_fewer_never_make_a_fair_bet_unfair(
    found: np.ndarray, effects: list[float]
) -> None:
    fair = found / np.maximum(found.mean(axis=1, keepdims=True), 1.0)
    powers = member_powers(tuple(MEMBERS), effects)
    assert (np.mean(fair ** powers[:, None], axis=1) <= 1.0 + 1e-9).all()


def test_independent_rows_count_whole() -> None:
    assert (member_powers(("witness", "novelty"), (1.0, 1.0)) == 1.0).all()


@given(arrays(np.float64, (30, 3), elements=st.floats(0.0, 3.0)))
def test_many_streams_advance_as_each_alone(earned: np.ndarray) -> None:
    together = np.zeros((3, 2))
    alone = np.zeros(3)
    for row in earned:
        advance(together, np.stack([row, row], axis=1))
        advance(alone, row)
    assert (together == alone[:, None]).all()


def test_evidence_stops_at_its_cap() -> None:
    evidence = np.full((2, 9), EVIDENCE_CAP)
    advance(evidence, np.full((2, 9), 10.0))
    assert (evidence == EVIDENCE_CAP).all()


def test_the_mean_evidence_without_drift_is_at_most_the_rows() -> None:
    """What bounds the false alarms: E M_t <= t for a bet whose mean is 1."""
    rng = np.random.default_rng(0)
    evidence = np.zeros((1, 20_000))
    for _ in range(50):
        advance(evidence, rng.choice([0.8, 1.2], size=evidence.shape))
    assert evidence.mean() == pytest.approx(50.0, rel=0.03)

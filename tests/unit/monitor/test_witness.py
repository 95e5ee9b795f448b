"""The witness: whitened rows, moving averages, and a bet that does not pay without drift."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.geometry import normalise
from monitor.witness import (
    BETS,
    LAG,
    MEMBERS,
    RATES,
    component_count,
    fit_whitening,
    margins,
    payoffs,
    roll,
    roll_block,
    whiten,
)
from tests import clouds

NO_MARGIN = np.zeros(len(RATES), dtype=np.float32)


def walk(rows: np.ndarray, margin: np.ndarray) -> np.ndarray:
    """What every member earns at every row of (time, streams, components): (members, time,
    streams), as the detector goes about it."""
    directions = np.zeros((len(RATES), *rows.shape[1:]), dtype=np.float32)
    earned = []
    for at, z in enumerate(rows):
        earned.append(payoffs(directions, z, margin))
        if at >= LAG:
            directions += RATES[:, None, None] * (rows[at - LAG] - directions)
    return np.stack(earned, axis=1)


@pytest.mark.parametrize(("rows", "count"), [(60, 8), (528, 33), (8000, 64)])
def test_components_grow_with_the_rows_up_to_a_limit(rows: int, count: int) -> None:
    assert component_count(rows) == count


@pytest.mark.parametrize("rows", [12, 528])
def test_whitened_rows_have_mean_zero_and_no_correlation(rows: int) -> None:
    unit = normalise(clouds.reference(rows)[0])
    whitening = fit_whitening(unit)
    z = whiten(unit, whitening)
    assert z.dtype == np.float32
    assert z.mean(axis=0) == pytest.approx(np.zeros(z.shape[1]), abs=1e-3)
    assert z.T @ z / rows == pytest.approx(np.eye(z.shape[1]), abs=1e-2)


def test_the_same_rows_whiten_alike_and_their_order_does_not_matter() -> None:
    unit = normalise(clouds.reference(200)[0])
    first, again = fit_whitening(unit), fit_whitening(unit[::-1].copy())
    assert (fit_whitening(unit).projection == first.projection).all()
    assert again.projection == pytest.approx(first.projection, abs=1e-2)


def test_rows_that_are_all_alike_have_one_direction_that_says_nothing() -> None:
    unit = np.tile(np.array([[0.6, 0.8, 0.0]], dtype=np.float32), (40, 1))
    whitening = fit_whitening(unit)
    assert whiten(unit, whitening).tolist() == [[0.0]] * 40


def test_before_the_lag_has_passed_nobody_earns_more_than_nothing() -> None:
    rows = np.ones((LAG, 1, 4), dtype=np.float32)
    assert (walk(rows, NO_MARGIN) == 1.0).all()
    assert (walk(rows, margins(4, 100.0)) < 1.0).all()


def test_no_member_gains_without_drift() -> None:
    """The mean payoff of independent rows is at most 1 beyond what the clip adds to a Gaussian
    row (.011 deviations), and the margin covers that."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 400, 16)).astype(np.float32)
    fair = walk(rows, NO_MARGIN)[:, 200:].mean(axis=(1, 2))
    assert fair == pytest.approx(np.ones(MEMBERS), abs=0.011 * float(BETS[-1]) + 0.002)
    assert (walk(rows, margins(16, 500.0))[:, 200:].mean(axis=(1, 2)) <= 1.0).all()


def test_the_margin_covers_the_error_of_the_reference_twice_over() -> None:
    """Each stream lies off by the error of a mean of 500 rows, and traffic by as much again."""
    rng = np.random.default_rng(1)
    offsets = rng.normal(size=(1, 400, 16)) * np.sqrt(2.0 / 500.0)
    rows = (rng.normal(size=(1200, 400, 16)) + offsets).astype(np.float32)
    earned = walk(rows, margins(16, 500.0))[:, 600:].mean(axis=1)  # (members, streams)
    assert (earned.mean(axis=1) <= 1.0).all()
    assert np.mean(earned > 1.0) < 0.2


def test_a_shift_along_any_direction_pays() -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(400, 50, 16)).astype(np.float32)
    rows[..., 5] += 1.0
    earned = walk(rows, margins(16, 2000.0))[:, 200:].mean(axis=(1, 2))
    assert (earned > 1.01).all()


@given(st.floats(-1e6, 1e6))
def test_no_row_decides_alone_and_none_ruins(size: float) -> None:
    directions = np.ones((len(RATES), 3), dtype=np.float32)
    earned = payoffs(directions, np.full(3, size, dtype=np.float32), margins(3, 100.0))
    assert (earned > 0.5).all()
    assert (earned <= 1.0 + 4.0 * BETS[-1] + 1e-6).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_a_block_rolls_as_its_rows_would(seed: int) -> None:
    rng = np.random.default_rng(seed)
    olds = rng.normal(size=(LAG, 3, 5)).astype(np.float32)
    start = rng.normal(size=(len(RATES), 3, 5)).astype(np.float32)
    for stream in range(3):
        directions = start[:, stream].copy()
        for row in range(LAG):
            for rate in range(len(RATES)):
                block = roll_block(start[rate], olds, rate)
                assert block[row, stream] == pytest.approx(directions[rate], abs=1e-5)
            roll(directions, olds[row, stream])
        for rate in range(len(RATES)):
            block = roll_block(start[rate], olds, rate)
            assert block[LAG, stream] == pytest.approx(directions[rate], abs=1e-5)

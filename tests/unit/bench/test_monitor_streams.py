"""bench.monitor's streams: what is drawn is what is said to be drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.monitor.plan import FULL
from bench.monitor.streams import (
    MIX,
    RAMP_ROWS,
    Shift,
    Source,
    bursty,
    bursty_order,
    independent,
    shifted,
    split,
)

CLASSES = 400
ROWS_PER_CLASS = 8
POOL = CLASSES * ROWS_PER_CLASS


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def source() -> Source:
    """POOL rows, a group of 50 new ones, and 100 pool rows with a variant each."""
    rows = POOL + 150
    changed = np.arange(0, 3_000, 30)
    return Source(
        name="numbers",
        about="",
        embeddings=np.zeros((rows, 2), dtype=np.float32),
        probabilities=np.ones((rows, 1)),
        kinds=np.repeat(np.arange(CLASSES), ROWS_PER_CLASS),
        groups={"new": np.arange(POOL, POOL + 50)},
        variants={"typos": (changed, np.arange(POOL + 50, POOL + 150))},
    )


def mean_run(kinds: np.ndarray) -> float:
    return len(kinds) / (1 + int(np.sum(kinds[1:] != kinds[:-1])))


@given(rows=st.integers(2, 400), part=st.floats(0.0, 1.0))
def test_reference_and_traffic_share_no_row(rows: int, part: float) -> None:
    reference, live = split(rows, round(part * rows), rng())
    assert sorted([*reference, *live]) == list(range(rows))


def test_independent_rows_come_from_the_live_pool_alone() -> None:
    drawn = independent(np.array([3, 5, 9]), (200, 4), rng())
    assert drawn.shape == (200, 4)
    assert set(drawn.ravel().tolist()) == {3, 5, 9}


@pytest.mark.parametrize("mean_burst", [1.25, 2.0, 5.0])
def test_bursts_have_the_stated_mean_length(mean_burst: float) -> None:
    kinds = source().kinds
    drawn = kinds[bursty(np.arange(POOL), kinds, (5_000, 8), mean_burst, rng())]
    found = np.mean([mean_run(stream) for stream in drawn.T])
    # Two bursts in a row of the same class count as one: once in CLASSES.
    assert found == pytest.approx(mean_burst, rel=0.03)


def test_bursts_draw_every_live_row_equally_often() -> None:
    kinds, live = source().kinds, np.arange(0, POOL, 3)
    drawn = bursty(live, kinds, (4_000, 20), 2.0, rng())
    counts = np.bincount(drawn.ravel(), minlength=POOL)
    assert not np.any(np.delete(counts, live))
    assert np.std(counts[live]) < 2.5 * np.sqrt(np.mean(counts[live]))


def test_bursts_of_one_row_do_not_hang_together() -> None:
    kinds = source().kinds
    drawn = kinds[bursty(np.arange(POOL), kinds, (5_000, 4), 1.0, rng())]
    assert np.mean(drawn[1:] == drawn[:-1]) < 0.006


@given(seed=st.integers(0, 1_000), mean_burst=st.floats(1.0, 6.0))
def test_a_bursty_reference_keeps_each_row_once(seed: int, mean_burst: float) -> None:
    kinds = np.repeat(np.arange(9), 7)
    rows = rng(seed).permutation(63)[:40]
    ordered = bursty_order(rows, kinds, mean_burst, rng(seed))
    assert sorted(ordered.tolist()) == sorted(rows.tolist())


@pytest.mark.parametrize("mean_burst", [1.25, 2.0])
def test_a_bursty_reference_has_the_stated_mean_length(mean_burst: float) -> None:
    kinds = np.repeat(np.arange(50), 60)
    ordered = bursty_order(np.arange(3_000), kinds, mean_burst, rng())
    # Two bursts of the same class can meet, and the last ones find their classes used up.
    assert mean_run(kinds[ordered]) == pytest.approx(mean_burst, rel=0.06)


def test_a_share_of_the_traffic_is_new() -> None:
    drawn = shifted(source(), np.arange(POOL), Shift("", "new", 0.1), (4_000, 5), rng())
    assert np.mean(drawn >= POOL) == pytest.approx(0.1, abs=0.01)


def test_a_ramp_reaches_its_share_at_its_end() -> None:
    shift = Shift("", "new", 0.5, ramp=True)
    drawn = shifted(source(), np.arange(POOL), shift, (RAMP_ROWS, 50), rng())
    is_new = (drawn >= POOL).mean(axis=1)
    assert is_new[:200].mean() == pytest.approx(0.025, abs=0.01)
    assert is_new[-200:].mean() == pytest.approx(0.475, abs=0.03)


def test_variants_of_reference_rows_do_not_come() -> None:
    live = np.arange(1_500, POOL)
    drawn = shifted(source(), live, Shift("", "typos", 1.0), (2_000, 1), rng())
    was, became = source().variants["typos"]
    assert set(drawn.ravel().tolist()) == set(became[was >= 1_500].tolist())


def test_the_class_mix_moves_by_half() -> None:
    live = np.arange(POOL)
    drawn = shifted(source(), live, Shift("", MIX, 1.0), (2_000, 5), rng())
    staying = np.unique(source().kinds[drawn])
    assert len(staying) == CLASSES // 2


def test_every_target_is_measured_on_as_many_rows() -> None:
    rows = {target: FULL.streams_of(target) * target for target in FULL.targets}
    assert len(set(rows.values())) == 1


def test_reference_sizes_leave_enough_traffic() -> None:
    assert FULL.sizes(888) == [500]
    assert FULL.sizes(3_080) == [500, 1_500]
    assert FULL.sizes(8_792) == [500, 1_500, 2_500, 4_000]
    assert FULL.compared(888) == 500
    assert FULL.compared(8_792) == 1_500

"""Tables against one another: what has moved is named, what has not is left alone."""

import numpy as np
import pytest

from edgeloop.errors import DatasetError
from monitor import compare
from monitor.compare import LEVEL, compare_tables
from monitor.tables import ArrayTable, Stretch


def table(rng: np.random.Generator, rows: int, columns: int = 3, shift: float = 0.0) -> ArrayTable:
    values = rng.normal(size=(rows, columns))
    values[:, 0] += shift
    return ArrayTable("t", tuple(f"f{i}" for i in range(columns)), values)


def test_a_report_on_unchanged_traffic_seldom_marks_anything() -> None:
    """Each of the three questions at its level; 150 reports, four deviations."""
    rng = np.random.default_rng(0)
    psi = windows = apart = 0
    for _ in range(150):
        found = compare_tables(table(rng, 300), table(rng, 300), window_rows=60)
        psi += any(f.psi > f.psi_threshold for f in found.features)
        windows += any((f.p_values <= LEVEL).any() for f in found.features)
        assert found.separation is not None
        apart += found.separation.p_value <= LEVEL
    most = 150 * LEVEL + 4.0 * np.sqrt(150 * LEVEL * (1.0 - LEVEL))
    assert max(psi, windows, apart) <= most


def test_a_shift_is_found_in_its_feature_and_its_windows() -> None:
    rng = np.random.default_rng(1)
    reference, quiet, moved = table(rng, 2_000), table(rng, 1_000), table(rng, 1_000, 3, 1.0)
    traffic = ArrayTable("now", quiet.columns, np.concatenate([quiet.values, moved.values]))
    found = compare_tables(reference, traffic, window_rows=200, recent_start=1_000)
    first, *others = found.features
    assert first.has_moved
    assert not any(other.has_moved for other in others)
    assert (first.p_values <= LEVEL).tolist() == [False] * 5 + [True] * 5
    assert found.window_starts == tuple(range(0, 2_000, 200))
    assert (found.reference_rows, found.recent_rows) == (2_000, 1_000)
    assert first.recent_median - first.reference_median == pytest.approx(1.0, abs=0.15)
    assert found.separation is not None
    assert found.separation.auc > 0.65


def test_large_tables_are_sampled_and_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "SAMPLE_ROWS", 500)
    rng = np.random.default_rng(2)
    found = compare_tables(table(rng, 3_000), table(rng, 2_500), window_rows=1_000)
    feature = found.features[0]
    assert (feature.reference_counts.sum(), feature.recent_counts.sum()) == (3_000, 2_500)
    assert len(found.window_starts) == 3


def test_missing_values_are_counted_apart_and_a_missing_feature_is_no_error() -> None:
    rng = np.random.default_rng(3)
    reference, traffic = table(rng, 400, 2), table(rng, 400, 2)
    reference.values[:100, 0] = np.nan
    traffic.values[:, 1] = np.nan
    found = compare_tables(reference, traffic)
    assert found.features[0].reference_missing_ratio == 0.25
    assert found.features[1].recent_missing_ratio == 1.0
    assert found.features[0].psi > found.features[0].psi_threshold
    assert found.features[1].psi > found.features[1].psi_threshold
    assert np.isnan(found.features[1].recent_median)


def test_tables_that_cannot_be_compared_are_bad_input() -> None:
    rng = np.random.default_rng(4)
    one = table(rng, 100)
    other = ArrayTable("o", ("x",), np.ones((100, 1)))
    with pytest.raises(DatasetError, match="share no column of numbers: f0, f1, f2 and x"):
        compare_tables(one, other)
    empty = ArrayTable("empty", one.columns, np.empty((0, 3)))
    with pytest.raises(DatasetError, match="empty: has no rows"):
        compare_tables(empty, one)
    with pytest.raises(DatasetError, match="empty: has no rows"):
        compare_tables(one, empty)


def test_columns_that_one_table_lacks_are_named() -> None:
    rng = np.random.default_rng(5)
    found = compare_tables(table(rng, 200, 4), Stretch(table(rng, 200), 0, None, "recent"))
    assert found.left_out == ("f3",)

"""The estimated onset of drift, from the path of the evidence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.onset import KEPT_ROWS, EvidencePath, rows_since_onset

values = st.lists(st.floats(-1.0, 2.0, width=32), max_size=1_200)


def path_of(evidence: list[float]) -> EvidencePath:
    path = EvidencePath()
    for value in evidence:
        path.add(value)
    return path


@given(values)
def test_the_last_rows_are_kept_in_order(evidence: list[float]) -> None:
    path = path_of(evidence)
    assert path.values().tolist() == evidence[-KEPT_ROWS:]
    assert len(path) == min(len(evidence), KEPT_ROWS)


@given(values, values)
def test_a_restored_path_goes_on_as_the_first(before: list[float], after: list[float]) -> None:
    first, second = path_of(before), EvidencePath()
    second.restore(first.values())
    for value in after:
        first.add(value)
        second.add(value)
    assert np.array_equal(first.values(), second.values())


def test_a_cleared_path_is_empty() -> None:
    path = path_of([1.0, 2.0])
    path.clear()
    assert len(path.values()) == 0


@given(st.lists(st.floats(-1.0, 2.0, width=32), max_size=600))
def test_the_onset_lies_in_the_path(evidence: list[float]) -> None:
    assert 0 <= rows_since_onset(np.array(evidence, dtype=np.float32)) <= len(evidence)


@pytest.mark.parametrize(("rising", "error"), [(3, 2), (30, 6), (200, 60)])
@pytest.mark.parametrize("quiet", [80, 400])
def test_the_onset_of_a_steady_rise_is_found(rising: int, error: int, quiet: int) -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng([seed, rising])
        start = 0.4 * (1.0 - np.exp(-np.arange(quiet) / 15.0))  # detectors that have just started
        path = np.concatenate([start, 0.4 + 0.6 * np.arange(1, rising + 1) / rising])
        found.append(rows_since_onset((path + rng.normal(0, 0.03, len(path))).astype("f4")))
    assert abs(np.median(found) - rising) <= error, found


def test_a_path_of_one_row_began_with_it() -> None:
    assert rows_since_onset(np.array([2.0], dtype=np.float32)) == 1
    assert rows_since_onset(np.zeros(0, dtype=np.float32)) == 0

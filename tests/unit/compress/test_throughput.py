"""Layouts of threads, and what a burst counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.throughput import Layout, layouts


@given(cores=st.integers(1, 128))
def test_every_layout_fills_the_cores_and_both_ends_are_there(cores: int) -> None:
    found = layouts(cores)
    assert {layout.workers * layout.intra_op_threads for layout in found} == {cores}
    assert found[0] == Layout(cores, 1)
    assert found[-1] == Layout(1, cores)
    assert len(set(found)) == len(found)


def test_one_core_has_one_layout_and_eight_have_four() -> None:
    assert layouts(1) == (Layout(1, 1),)
    assert layouts(8) == (Layout(8, 1), Layout(4, 2), Layout(2, 4), Layout(1, 8))


@pytest.mark.parametrize("cores", [0, -2])
def test_without_a_core_there_is_no_layout(cores: int) -> None:
    with pytest.raises(ValueError, match="cannot answer"):
        layouts(cores)

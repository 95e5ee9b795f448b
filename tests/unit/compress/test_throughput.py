"""Layouts of threads, and what a burst counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.machine import layouts
from edgeloop.records_measured import Layout


@given(cores=st.integers(1, 128))
def test_every_layout_fills_the_cores_and_both_ends_are_there(cores: int) -> None:
    found = layouts(cores)
    assert {layout.workers * layout.intra_op_threads for layout in found} == {cores}
    assert found[0] == Layout(workers=cores, intra_op_threads=1)
    assert found[-1] == Layout(workers=1, intra_op_threads=cores)
    assert len(set(found)) == len(found)


def test_one_core_has_one_layout_and_eight_have_four() -> None:
    assert layouts(1) == (Layout(workers=1, intra_op_threads=1),)
    assert layouts(8) == (
        Layout(workers=8, intra_op_threads=1),
        Layout(workers=4, intra_op_threads=2),
        Layout(workers=2, intra_op_threads=4),
        Layout(workers=1, intra_op_threads=8),
    )


@pytest.mark.parametrize("cores", [0, -2])
def test_without_a_core_there_is_no_layout(cores: int) -> None:
    with pytest.raises(ValueError, match="cannot answer"):
        layouts(cores)

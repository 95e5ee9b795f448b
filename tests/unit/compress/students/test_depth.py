"""How many layers a shallow student has, and which."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.students.depth import chosen_layers, half, third
from edgeloop.errors import ExportError


@pytest.mark.parametrize(
    ("layers", "halved", "thirded"), [(4, 2, 1), (6, 3, 2), (12, 6, 4), (22, 11, 7)]
)
def test_half_and_third_of_common_depths(layers: int, halved: int, thirded: int) -> None:
    assert (half(layers), third(layers)) == (halved, thirded)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_third_that_is_no_less_than_a_half_is_refused(layers: int) -> None:
    with pytest.raises(ExportError, match=f"student-third: the teacher has {layers} layers"):
        third(layers)


def test_one_layer_cannot_be_halved() -> None:
    with pytest.raises(ExportError, match="student-half: the teacher has 1 layer"):
        half(1)


@given(layers=st.integers(1, 48), data=st.data())
def test_chosen_layers_are_distinct_in_order_and_reach_from_first_to_last(
    layers: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, layers))
    chosen = chosen_layers(layers, count)
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) == count
    assert chosen[0] == 0
    assert count == 1 or chosen[-1] == layers - 1

"""Blocks of few bits: packed as they are read, and never further from the weights than rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from compress.quantize.blocks import SHRINKAGES, Blocks, pack, quantize_blocks

BLOCK = 16


@st.composite
def rows(draw: st.DrawFn) -> NDArray[np.float32]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 50))
    heavy = draw(st.sampled_from([1.0, 20.0]))
    values = rng.normal(size=shape) * draw(st.sampled_from([0.0, 1e-4, 1.0, 50.0]))
    values[0, 0] *= heavy
    return values.astype(np.float32)


def steps(blocks: Blocks, width: int) -> NDArray[np.float32]:
    """Each value's step between two levels."""
    spread = np.broadcast_to(blocks.scales[..., None], blocks.levels.shape)
    return spread.reshape(len(spread), -1)[:, :width]


@given(rows())
def test_eight_bits_are_within_a_step(values: NDArray[np.float32]) -> None:
    blocks = quantize_blocks(values, BLOCK, 8)
    width = values.shape[1]
    error = np.abs(blocks.values[:, :width] - values)
    # Half a step of rounding, and half of one since zero has a level of its own.
    assert np.all(error <= steps(blocks, width) * 1.001)
    assert np.all(blocks.values[:, width:] == 0.0)


@given(rows(), st.sampled_from([4, 8]))
def test_zero_stays_zero(values: NDArray[np.float32], bits: int) -> None:
    values[:, ::3] = 0.0
    found = quantize_blocks(values, BLOCK, bits).values
    assert np.all(found[:, : values.shape[1]][:, ::3] == 0.0)


@given(rows())
def test_cutting_the_range_is_never_worse_than_not(values: NDArray[np.float32]) -> None:
    width = values.shape[1]
    best = quantize_blocks(values, BLOCK, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compress.quantize.blocks.SHRINKAGES", SHRINKAGES[:1])
        plain = quantize_blocks(values, BLOCK, 4)
    errors = [((b.values[:, :width] - values) ** 2).sum() for b in (best, plain)]
    assert errors[0] <= errors[1] * (1.0 + 1e-5)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=40))
def test_two_numbers_are_in_a_byte_the_first_in_its_lower_half(numbers: list[int]) -> None:
    packed = pack(np.array([numbers], dtype=np.uint8), 4)[0]
    found = [half for byte in packed.tolist() for half in (byte & 15, byte >> 4)]
    assert found[: len(numbers)] == numbers
    assert len(packed) == -(-len(numbers) // 2)

"""Weights in blocks of a few bits each, with a scale and a zero point per block, as onnxruntime's
MatMulNBits and GatherBlockQuantized read them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Cutting a block's few largest values a little short costs less than the wider steps they ask for.
SHRINKAGES = np.linspace(1.0, 0.7, 13)


@dataclass(frozen=True)
class Blocks:
    """Rows of blocks. levels (rows, blocks, values) and zeros (rows, blocks) are whole numbers of
    `bits` bits; scales (rows, blocks). A value is (level - zero) * scale."""

    levels: NDArray[np.uint8]
    zeros: NDArray[np.uint8]
    scales: NDArray[np.float32]
    bits: int

    @property
    def values(self) -> NDArray[np.float32]:
        """What the rows are after quantization, (rows, blocks * values)."""
        steps = self.levels.astype(np.float32) - self.zeros[..., None]
        rows: NDArray[np.float32] = (steps * self.scales[..., None]).reshape(len(steps), -1)
        return rows

    def packed(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Levels (rows, blocks, bytes) and zero points (rows, bytes); of two 4-bit numbers in a
        byte the first is the lower half."""
        return pack(self.levels, self.bits), pack(self.zeros, self.bits)


def quantize_blocks(rows: NDArray[np.float32], block: int, bits: int) -> Blocks:
    """Blocks of `block` values along each row of (rows, values), the last one padded with zeros;
    each block's range is cut where its squared error is smallest."""
    padding = -rows.shape[1] % block
    padded = np.pad(rows, ((0, 0), (0, padding))).reshape(len(rows), -1, block)
    best = _round(padded, 1.0, bits)
    least = _error(padded, best)
    for shrinkage in SHRINKAGES[1:] if bits < 8 else ():
        tried = _round(padded, float(shrinkage), bits)
        error = _error(padded, tried)
        is_better = error < least
        least = np.where(is_better, error, least)
        best = Blocks(
            levels=np.where(is_better[..., None], tried.levels, best.levels),
            zeros=np.where(is_better, tried.zeros, best.zeros),
            scales=np.where(is_better, tried.scales, best.scales),
            bits=bits,
        )
    return best


def pack(numbers: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bytes of the numbers along the last axis."""
    if bits == 8:
        return numbers
    even = np.pad(numbers, [(0, 0)] * (numbers.ndim - 1) + [(0, numbers.shape[-1] % 2)])
    return (even[..., ::2] | (even[..., 1::2] << 4)).astype(np.uint8)


def _round(values: NDArray[np.float32], shrinkage: float, bits: int) -> Blocks:
    """The nearest levels of each block over its range, times `shrinkage`."""
    most = 2**bits - 1
    low = np.minimum(values.min(axis=-1), 0.0) * np.float32(shrinkage)
    high = np.maximum(values.max(axis=-1), 0.0) * np.float32(shrinkage)
    scales = np.where(high > low, (high - low) / most, 1.0).astype(np.float32)
    zeros = np.clip(np.rint(-low / scales), 0, most).astype(np.uint8)
    levels = np.rint(values / scales[..., None]) + zeros[..., None]
    return Blocks(np.clip(levels, 0, most).astype(np.uint8), zeros, scales, bits)


def _error(values: NDArray[np.float32], blocks: Blocks) -> NDArray[np.float32]:
    """Squared error of every block, (rows, blocks)."""
    error: NDArray[np.float32] = ((blocks.values.reshape(values.shape) - values) ** 2).sum(axis=-1)
    return error

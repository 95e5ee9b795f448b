"""Rows of an .npz file in chunks: its arrays are read out of the zip a stretch at a time, so that a
file larger than the memory is no trouble, and nothing is ever unpickled.
"""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError

SUFFIX = ".npy"


@dataclass(frozen=True)
class Stored:
    """One array of the file by its header."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class NpzRows:
    """The arrays of one file."""

    def __init__(self, path: Path) -> None:
        """Raises DatasetError where it is no .npz file."""
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if name.endswith(SUFFIX)]
                self.arrays = {
                    name.removesuffix(SUFFIX): self._head(archive, name) for name in names
                }
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError) as problem:
            raise DatasetError(f"{path}: not an .npz file that can be read ({problem})") from None

    def require(self, name: str, dimensions: int, kinds: str) -> Stored:
        """The header of an array that must be there, with so many dimensions and one of numpy's
        kinds ("f" float, "iu" integers, "UO" text). Raises DatasetError."""
        stored = self.arrays.get(name)
        if stored is None:
            there = ", ".join(self.arrays) or "none"
            raise DatasetError(f"{self.path}: array {name!r} is missing; the file has {there}")
        if len(stored.shape) != dimensions or stored.dtype.kind not in kinds:
            raise DatasetError(
                f"{self.path}: array {name!r} is {stored.dtype} {stored.shape}; "
                f"{dimensions} dimension{'s' * (dimensions > 1)} of {KINDS[kinds]} are needed"
            )
        return stored

    def chunks(self, names: Sequence[str], rows: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Stretches of at most `rows` rows of these arrays, side by side.

        Raises DatasetError where they have not the same number of rows, or the file is cut off.
        """
        lengths = {name: self.arrays[name].shape[0] for name in names}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise DatasetError(f"{self.path}: the arrays have not one row each per row ({listed})")
        total = next(iter(lengths.values()), 0)
        try:
            with zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
                streams = [
                    (name, stack.enter_context(archive.open(name + SUFFIX))) for name in names
                ]
                for _, stream in streams:
                    _read_head(stream)
                for start in range(0, total, rows):
                    count = min(rows, total - start)
                    yield {name: self._take(stream, name, count) for name, stream in streams}
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as problem:
            raise DatasetError(f"{self.path}: cannot be read to its end ({problem})") from None

    def whole(self, name: str) -> NDArray[Any]:
        """A small array at once."""
        stored = self.arrays[name]
        if not stored.shape:
            with zipfile.ZipFile(self.path) as archive, archive.open(name + SUFFIX) as stream:
                return np.lib.format.read_array(stream, allow_pickle=False)
        chunks = list(self.chunks([name], max(stored.shape[0], 1)))
        return chunks[0][name] if chunks else np.empty(stored.shape, stored.dtype)

    def _head(self, archive: zipfile.ZipFile, name: str) -> Stored:
        with archive.open(name) as stream:
            shape, fortran, dtype = _read_head(stream)
        if fortran and len(shape) > 1:
            raise ValueError(
                f"array {name} lies column by column; store np.ascontiguousarray of it"
            )
        if dtype.hasobject:
            raise ValueError(f"array {name} holds Python objects; store numbers or text")
        return Stored(shape, dtype)

    def _take(self, stream: IO[bytes], name: str, count: int) -> NDArray[Any]:
        stored = self.arrays[name]
        width = int(np.prod(stored.shape[1:], dtype=np.int64))
        size = count * width * stored.dtype.itemsize
        data = stream.read(size)
        if len(data) != size:
            raise EOFError(f"array {name} ends {size - len(data)} bytes too early")
        return np.frombuffer(data, stored.dtype).reshape(count, *stored.shape[1:])


KINDS = {"f": "floats", "fiu": "numbers", "U": "text", "Mfiu": "times"}


def _read_head(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise ValueError(f"an array of the format {version} is too new")

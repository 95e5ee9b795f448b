"""Wide tables of numbers, read in chunks: csv (any of the usual dividers), npz (one array per
column, or `features` (n, columns) with `names`), parquet (needs pyarrow). Never whole in memory.

Columns that hold something else than numbers, and the row's own id and time, are no features.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from monitor.npz import NpzRows

Floats = NDArray[np.float64]

CHUNK_ROWS = 32_768
PROBED_ROWS = 1_000
DIVIDERS = (",", ";", "\t", "|")
NO_FEATURES = frozenset({"id", "row", "time", "timestamp", "at", "date"})
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
READ_BYTES = 1 << 20
WIDE, NAMES = "features", "names"


class Table(Protocol):
    """`rows` may be an estimate. NaN is a missing value."""

    name: str
    columns: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: int

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """These columns, (at most CHUNK_ROWS, columns) at a time. Raises DatasetError."""
        ...


def open_table(path: Path) -> Table:
    """Raises DatasetError where there is no such file, its kind is none of those above, or it has
    no column of numbers; ModuleNotFoundError for parquet without pyarrow."""
    kind = path.suffix.lower()
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file")
    if kind not in OPENERS:
        raise DatasetError(
            f"{path}: unknown kind {path.suffix!r} of a table; use {', '.join(sorted(OPENERS))}, "
            "or name --bundle for texts"
        )
    table: Table = OPENERS[kind](path)
    if not table.columns:
        there = ", ".join(table.left_out) or "none"
        raise DatasetError(f"{path}: no column holds numbers (the columns: {there})")
    return table


@dataclass
class ArrayTable:
    """Columns in memory: values (rows, columns)."""

    name: str
    columns: tuple[str, ...]
    values: Floats
    left_out: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.values)

    @rows.setter
    def rows(self, value: int) -> None:
        raise AttributeError("the rows are those of the values")

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        places = [self.columns.index(name) for name in columns]
        for start in range(0, len(self.values), CHUNK_ROWS):
            yield self.values[start : start + CHUNK_ROWS, places]


class Joined:
    """Tables one after the other: the columns that all of them have."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self._tables = tables
        self.name = ", ".join(table.name for table in tables)
        self.columns = tuple(
            name for name in tables[0].columns if all(name in table.columns for table in tables)
        )
        everything = chain.from_iterable((*t.columns, *t.left_out) for t in tables)
        self.left_out = tuple(dict.fromkeys(n for n in everything if n not in self.columns))
        self.rows = sum(table.rows for table in tables)

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """See Table."""
        for table in self._tables:
            yield from table.chunks(columns)


class Stretch:
    """The rows [start, stop) of a table."""

    def __init__(self, table: Table, start: int, stop: int | None, name: str) -> None:
        self._table, self._start, self._stop = table, start, stop
        self.name, self.columns, self.left_out = name, table.columns, table.left_out
        self.rows = max((table.rows if stop is None else min(stop, table.rows)) - start, 0)

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """See Table."""
        at = 0
        for chunk in self._table.chunks(columns):
            if self._stop is not None and at >= self._stop:
                return
            end = len(chunk) if self._stop is None else self._stop - at
            kept = chunk[max(self._start - at, 0) : end]
            at += len(chunk)
            if len(kept):
                yield kept


class CsvTable:
    """A csv file with a header."""

    def __init__(self, path: Path) -> None:
        self.name, self._path = path.name, path
        lines, self._quoted = _count(path)
        self.rows = max(lines - 1, 0)
        with self._open() as stream:
            header = stream.readline().rstrip("\r\n")
            self._divider = max(DIVIDERS, key=header.count)
            self._header = next(csv.reader([header], delimiter=self._divider), [])
            probed = list(islice(csv.reader(stream, delimiter=self._divider), PROBED_ROWS))
        if len(set(self._header)) != len(self._header):
            raise DatasetError(f"{path}: two columns have the same name: {', '.join(self._header)}")
        numeric = [
            name
            for place, name in enumerate(self._header)
            if name.lower() not in NO_FEATURES and _is_numeric(probed, place)
        ]
        self.columns = tuple(numeric)
        self.left_out = tuple(name for name in self._header if name not in numeric)

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """See Table."""
        places = [self._header.index(name) for name in columns]
        line = 2
        with self._open() as stream:
            stream.readline()
            source: Any = csv.reader(stream, delimiter=self._divider) if self._quoted else stream
            while part := list(islice(source, CHUNK_ROWS)):
                yield self._parse(part, places, line)
                line += len(part)

    def _open(self) -> Any:
        return self._path.open(encoding="utf-8-sig", newline="")

    def _parse(self, part: list[Any], places: Sequence[int], line: int) -> Floats:
        """Lines, or rows of cells where the file has quotes."""
        if not self._quoted:
            try:
                return np.loadtxt(
                    part, delimiter=self._divider, usecols=places, ndmin=2, comments=None
                )
            except ValueError:  # a missing value, or something wrong: cell by cell
                part = list(csv.reader(part, delimiter=self._divider))
        rows = [row for row in part if row]
        values = np.empty((len(rows), len(places)))
        for number, row in enumerate(rows):
            if len(row) != len(self._header):
                raise DatasetError(
                    f"{self._path}:{line + number}: {len(row)} cells, the header has "
                    f"{len(self._header)}"
                )
            for column, place in enumerate(places):
                values[number, column] = self._number(row[place], place, line + number)
        return values

    def _number(self, cell: str, place: int, line: int) -> float:
        number = _number(cell)
        if number is None:
            raise DatasetError(
                f"{self._path}:{line}: {self._header[place]} is {cell[:60]!r}, the column held "
                f"numbers in the first {PROBED_ROWS} rows; write numbers or leave cells empty"
            )
        return number


def _count(path: Path) -> tuple[int, bool]:
    """Lines of a file, and whether it has double quotes."""
    lines, quoted, last = 0, False, b"\n"
    with path.open("rb") as stream:
        while data := stream.read(READ_BYTES):
            lines += data.count(b"\n")
            quoted = quoted or b'"' in data
            last = data[-1:]
    return lines + (last != b"\n"), quoted


def _is_numeric(rows: Sequence[Sequence[str]], place: int) -> bool:
    cells = [row[place] for row in rows if place < len(row)]
    numbers = [_number(cell) for cell in cells]
    return None not in numbers and not all(math.isnan(n) for n in numbers if n is not None)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return math.nan if cell.strip().lower() in MISSING else None


class NpzTable:
    """An .npz file of columns, or of one wide array with their names."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = NpzRows(path)
        heads = self._file.arrays
        self._wide: tuple[str, ...] = ()
        if WIDE in heads:
            width = self._file.require(WIDE, 2, "fiu").shape[1]
            self._wide = tuple(f"{WIDE}[{place}]" for place in range(width))
            if NAMES in heads:
                self._wide = tuple(map(str, self._file.whole(NAMES)))
            if len(set(self._wide)) != width:
                raise DatasetError(
                    f"{path}: {len(set(self._wide))} different {NAMES} for {width} columns"
                )
            self.columns, self.rows = self._wide, heads[WIDE].shape[0]
            self.left_out = tuple(name for name in heads if name not in (WIDE, NAMES))
            return
        self.columns = tuple(
            name
            for name, head in heads.items()
            if len(head.shape) == 1 and head.dtype.kind in "fiub" and name not in NO_FEATURES
        )
        self.left_out = tuple(name for name in heads if name not in self.columns)
        self.rows = heads[self.columns[0]].shape[0] if self.columns else 0

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """See Table."""
        if self._wide:
            places = [self._wide.index(name) for name in columns]
            for part in self._file.chunks([WIDE], CHUNK_ROWS):
                yield part[WIDE][:, places].astype(np.float64)
            return
        for part in self._file.chunks(list(columns), CHUNK_ROWS):
            yield np.stack([part[name].astype(np.float64) for name in columns], axis=1)


class ParquetTable:
    """A parquet file."""

    def __init__(self, path: Path) -> None:
        # Only here: boxes that serve have no pyarrow.
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        self.name, self._path = path.name, path
        try:
            with pq.ParquetFile(path) as file:
                schema, self.rows = file.schema_arrow, file.metadata.num_rows
        except (pa.ArrowException, OSError) as problem:
            raise DatasetError(f"{path}: not a parquet file that can be read ({problem})") from None
        types = pa.types
        self.columns = tuple(
            field.name
            for field in schema
            if field.name.lower() not in NO_FEATURES
            and (
                types.is_integer(field.type)
                or types.is_floating(field.type)
                or types.is_boolean(field.type)
            )
        )
        self.left_out = tuple(name for name in schema.names if name not in self.columns)

    def chunks(self, columns: Sequence[str]) -> Iterator[Floats]:
        """See Table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(self._path, pre_buffer=False, buffer_size=READ_BYTES) as file:
                for batch in file.iter_batches(
                    batch_size=CHUNK_ROWS, columns=list(columns), use_threads=False
                ):
                    yield np.stack([_column(batch.column(name)) for name in columns], axis=1)
        except (pa.ArrowException, OSError) as problem:
            raise DatasetError(f"{self._path}: cannot be read to its end ({problem})") from None


def _column(column: Any) -> Floats:
    """Nulls become NaN."""
    values = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)


OPENERS: dict[str, Any] = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".npz": NpzTable,
    ".parquet": ParquetTable,
}

"""Reads labelled rows from csv, jsonl and parquet files, and reads and writes the jsonl of a split.

Every row is checked; all problems are collected and reported at once, each with file, line and
value. Files are read as streams; only the four cells that are needed of a row are kept.
"""

import codecs
import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Columns
from edgeloop.rundir import CHUNK_BYTES

MAX_CELL_BYTES = 100_000
MAX_PROBLEMS_SHOWN = 20
SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled row; `key` is its group or time where the split needs one."""

    id: str
    text: str
    label: str
    key: str = ""
    where: str = ""


@dataclass
class Problems:
    """What is wrong with the rows: the first few in words, the rest counted."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, problem: str) -> None:
        """Note one problem."""
        self.count += 1
        if len(self.shown) < MAX_PROBLEMS_SHOWN:
            self.shown.append(problem)

    def raise_if_any(self) -> None:
        """Raises DatasetError that lists the problems, one per line."""
        if self.count:
            more = self.count - len(self.shown)
            raise DatasetError("\n".join(self.shown + [f"and {more} more"] * (more > 0)))


@dataclass(frozen=True)
class Wanted:
    """The columns to read: text and label always, id where it is there, key where it is asked."""

    columns: Columns
    key: str | None

    def needed(self) -> list[str]:
        """The columns that a file must have."""
        names = [self.columns.text, self.columns.label]
        return names if self.key is None else [*names, self.key]

    def check(self, path: Path, there: Iterable[str], problems: Problems) -> bool:
        """Note each needed column that the file lacks; False where there was one."""
        names = list(there)
        missing = [name for name in self.needed() if name not in names]
        for name in missing:
            problems.add(
                f"{path}: column {name!r} is missing; the file has {', '.join(names) or 'none'} "
                "(name yours in data.columns)"
            )
        return not missing


Cells = Mapping[str, Any]
Reader = Callable[[Path, Wanted, Problems], Iterator[tuple[int, Cells]]]


def read_rows(
    paths: Sequence[Path], columns: Columns, key: str | None, problems: Problems
) -> list[Row]:
    """The good rows of the files in order; what is wrong with the others goes to `problems`."""
    wanted = Wanted(columns, key)
    rows: list[Row] = []
    made: dict[str, int] = {}
    for path in paths:
        before = problems.count
        found = 0
        for line, cells in _cells(path, wanted, problems):
            found += 1
            row = _row(f"{path}:{line}", cells, wanted, made, problems)
            if row is not None:
                rows.append(row)
        if found == 0 and problems.count == before:
            problems.add(f"{path}: the file has no rows")
    return rows


def read_labelled(path: Path, columns: Columns) -> list[LabelledRow]:
    """One file's labelled rows outside a recipe's splits: answers, stored traffic.

    Raises DatasetError with all problems.
    """
    problems = Problems()
    rows = read_rows([path], columns, None, problems)
    problems.raise_if_any()
    return [LabelledRow(row.id, row.text, row.label) for row in rows]


def _cells(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """(line, cells) of one file by its suffix."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        problems.add(f"{path}: unknown kind {path.suffix!r}; use {', '.join(sorted(READERS))}")
    elif not path.is_file():
        problems.add(f"{path}: there is no such file")
    elif path.suffix.lower() == ".parquet" or _is_utf8(path, problems):
        yield from reader(path, wanted, problems)


def _is_utf8(path: Path, problems: Problems) -> bool:
    """Decode the whole file once, so that the byte offset of the first bad byte can be told."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    start = 0
    with path.open("rb") as stream:
        while True:
            chunk = stream.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as problem:
                offset = start - pending + problem.start
                bad = problem.object[problem.start]
                problems.add(
                    f"{path}: not UTF-8: byte 0x{bad:02x} at byte offset {offset}; "
                    "save the file as UTF-8"
                )
                return False
            if not chunk:
                return True
            start += len(chunk)


def _read_csv(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header: list[str] = []
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as problem:
                problems.add(f"{path}:{line}: {_csv_problem(problem)}; the rest was not read")
                return
            if cells is None:
                return
            if not header:
                header = cells
                if not wanted.check(path, header, problems):
                    return
            elif len(cells) not in (0, len(header)):
                problems.add(
                    f"{path}:{line}: {len(cells)} cells, the header has {len(header)}; put double "
                    f"quotes around a cell that holds a comma: {_show(','.join(cells))}"
                )
            elif cells:
                yield line, dict(zip(header, cells, strict=True))


def _csv_problem(problem: csv.Error) -> str:
    if "field limit" in str(problem):
        return f"a cell is over {MAX_CELL_BYTES} bytes; cut it, or close an open quote before it"
    return f"malformed csv ({problem})"


def _read_jsonl(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    with path.open(encoding="utf-8-sig") as stream:
        for line, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                document = json.loads(text)
            except (ValueError, RecursionError) as problem:
                problems.add(f"{path}:{line}: not JSON ({problem}): {_show(text.strip())}")
                continue
            if not isinstance(document, dict):
                problems.add(f"{path}:{line}: not a JSON object: {_show(text.strip())}")
            elif wanted.check(Path(f"{path}:{line}"), document, problems):
                yield line, document


def _read_parquet(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    # Only here: csv and jsonl are read on the edge, which has no pyarrow.
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if not wanted.check(path, names, problems):
                return
            chosen = [n for n in names if n in (*wanted.needed(), wanted.columns.id)]
            line = 0
            for batch in file.iter_batches(columns=chosen):
                for cells in batch.to_pylist():
                    line += 1
                    yield line, cells
    except (pa.ArrowException, OSError) as problem:
        problems.add(f"{path}: not a parquet file that can be read ({problem})")


READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _row(
    where: str, cells: Cells, wanted: Wanted, made: dict[str, int], problems: Problems
) -> Row | None:
    """The checked row, or None where something in it is wrong."""
    before = problems.count
    columns = wanted.columns
    text = _cell(where, columns.text, cells[columns.text], problems)
    label = _cell(where, columns.label, cells[columns.label], problems).strip()
    key = "" if wanted.key is None else _cell(where, wanted.key, cells[wanted.key], problems)
    given = cells.get(columns.id)
    row_id = "" if given is None else _cell(where, columns.id, given, problems)
    if problems.count > before:
        return None
    return Row(row_id or _made_id(text, made), text, label, key, where)


def _cell(where: str, column: str, value: Any, problems: Problems) -> str:
    """The cell as text; numbers and dates are written out, anything else is a problem."""
    if isinstance(value, datetime):
        value = value.isoformat()
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        problems.add(f"{where}: {column} is empty; fill it in or remove the row")
    elif not isinstance(value, str):
        problems.add(f"{where}: {column} is {_show(repr(value))}, text is needed")
    elif (size := len(value.encode("utf-8", "surrogatepass"))) > MAX_CELL_BYTES:
        problems.add(
            f"{where}: {column} has {size} bytes, at most {MAX_CELL_BYTES}: {_show(value)}"
        )
    elif any("\ud800" <= character <= "\udfff" for character in value):
        problems.add(f"{where}: {column} holds half a surrogate pair: {_show(ascii(value))}")
    else:
        return value
    return ""


def _made_id(text: str, made: dict[str, int]) -> str:
    """An id from the text alone, so that rows keep theirs when others are added."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    made[digest] = made.get(digest, 0) + 1
    return digest if made[digest] == 1 else f"{digest}-{made[digest]}"


def _show(value: str) -> str:
    return value if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]}…"


def write_split(path: Path, rows: Iterable[Row]) -> None:
    """One row per line: {"id", "label", "text"}, the same bytes for the same rows."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            document = {"id": row.id, "label": row.label, "text": row.text}
            line = json.dumps(document, sort_keys=True, ensure_ascii=False)
            # str.splitlines() takes these for line ends; JSON lets them be escaped.
            for separator in ("\x85", "\u2028", "\u2029"):
                line = line.replace(separator, f"\\u{ord(separator):04x}")
            stream.write(line + "\n")


def read_split(path: Path) -> list[Row]:
    """The rows that `write_split` wrote."""
    with path.open(encoding="utf-8") as stream:
        return [Row(**json.loads(line)) for line in stream]

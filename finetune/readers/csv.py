"""csv and tsv: divided by comma, semicolon, tab or bar, whichever the header shows; quoted by any
of the usual rules, whichever fits the first rows. Read as a stream.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from finetune.problems import Problems, shown
from finetune.readers.base import Cells
from finetune.readers.encoding import find_encoding
from finetune.wanted import Wanted

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
PROBED_ROWS = 1000
MAX_CELL_BYTES = 100_000


@dataclass(frozen=True)
class Quoting:
    """How cells that hold a delimiter are marked; `name` is for the warning."""

    name: str
    settings: dict[str, Any]


STANDARD = Quoting("quotes doubled", {"quotechar": '"', "doublequote": True})
UNUSUAL = (
    Quoting(
        "quotes escaped by a backslash",
        {"quotechar": '"', "doublequote": False, "escapechar": "\\"},
    ),
    Quoting("single quotes", {"quotechar": "'", "doublequote": True}),
)
# Tab-separated files hold no tabs in their cells, and often a quote that means nothing.
NONE = Quoting("no quotes", {"quoting": csv.QUOTE_NONE})


def read_csv(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """Rows of a file whose header is divided by a comma, else by what fits the header."""
    yield from _read(path, DELIMITERS, wanted, problems)


def read_tsv(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """Rows of a file whose header is divided by tabs, else by what fits the header."""
    tab_first = sorted(DELIMITERS, key=lambda delimiter: delimiter != "\t")
    yield from _read(path, tuple(tab_first), wanted, problems)


def _read(
    path: Path, delimiters: tuple[str, ...], wanted: Wanted, problems: Problems
) -> Iterator[tuple[int, Cells]]:
    encoding = find_encoding(path, wanted.encoding, problems)
    if encoding is None:
        return
    delimiter = _delimiter(path, encoding, delimiters, wanted)
    quoting = _quoting(path, encoding, delimiter, wanted)
    if quoting is not STANDARD:
        problems.warnings.append(f"{path}: read with {quoting.name}; check a few of its rows")
    with path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, strict=True, delimiter=delimiter, **quoting.settings)
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
                    f"quotes around a cell that holds a {NAMES[delimiter]}: "
                    f"{shown(delimiter.join(cells))}"
                )
            elif cells:
                yield line, dict(zip(header, cells, strict=True))


def _delimiter(path: Path, encoding: str, delimiters: tuple[str, ...], wanted: Wanted) -> str:
    """The first that shows all needed columns in the header; else the one that shows most."""
    headers = {d: _header(path, encoding, d, STANDARD) for d in delimiters}
    for quoting in (STANDARD, *UNUSUAL):
        for delimiter in delimiters:
            header = _header(path, encoding, delimiter, quoting)
            if header and not wanted.missing(header):
                return delimiter
    return min(delimiters, key=lambda d: len(wanted.missing(headers[d])))


def _header(path: Path, encoding: str, delimiter: str, quoting: Quoting) -> list[str]:
    with path.open(encoding=encoding, newline="") as stream:
        try:
            return next(csv.reader(stream, delimiter=delimiter, **quoting.settings), [])
        except csv.Error:
            return []


def _quoting(path: Path, encoding: str, delimiter: str, wanted: Wanted) -> Quoting:
    """The standard unless it does not fit the first rows and another does."""
    unusual = (*UNUSUAL, NONE) if delimiter == "\t" else UNUSUAL
    for quoting in (STANDARD, *unusual):
        if _fits(path, encoding, delimiter, quoting, wanted):
            return quoting
    return STANDARD


def _fits(path: Path, encoding: str, delimiter: str, quoting: Quoting, wanted: Wanted) -> bool:
    with path.open(encoding=encoding, newline="") as stream:
        reader = csv.reader(stream, strict=True, delimiter=delimiter, **quoting.settings)
        try:
            header = next(reader, [])
            same = all(len(row) in (0, len(header)) for row in islice(reader, PROBED_ROWS))
        except csv.Error:
            return False
    return same and not wanted.missing(header)


def _csv_problem(problem: csv.Error) -> str:
    if "field limit" in str(problem):
        return f"a cell is over {MAX_CELL_BYTES} bytes; cut it, or close an open quote before it"
    return f"malformed csv ({problem})"

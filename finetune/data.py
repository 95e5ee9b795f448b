"""Reads the rows of csv, tsv, jsonl and parquet files and of Hugging Face dataset folders.

Every row is checked; all problems are collected and reported at once, each with file, line and
value. Files are read as streams; only the cells that are needed of a row are kept.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Columns, Data, TaskName
from edgeloop.rows import Row
from finetune.cells import LABEL_DIVIDER, RowCells, is_blank, make_row
from finetune.labelled import to_labelled
from finetune.problems import MAX_PROBLEMS_SHOWN, Problems, shown
from finetune.readers.base import Cells
from finetune.readers.csv import MAX_CELL_BYTES
from finetune.readers.kinds import FOLDER, READERS, kind_of
from finetune.wanted import Wanted

__all__ = [
    "MAX_CELL_BYTES",
    "MAX_PROBLEMS_SHOWN",
    "Problems",
    "Wanted",
    "log_warnings",
    "read_files",
    "read_labelled",
    "shown",
]

# What stored traffic may call the time of a row, the first that is there.
TIME_COLUMNS = ("time", "timestamp", "at")

logger = logging.getLogger(__name__)


def read_files(paths: Sequence[Path], wanted: Wanted, problems: Problems) -> list[Row]:
    """The good rows of the files in order; what is wrong with the others goes to `problems`."""
    rows: list[Row] = []
    made: dict[str, int] = {}
    for path in paths:
        before = problems.count
        found = 0
        for line, cells in _cells(path, wanted, problems):
            found += 1
            row = make_row(RowCells(f"{path}:{line}", cells, wanted, problems))
            if row is not None:
                rows.append(row if row.id else _with_id(row, made))
        if found == 0 and problems.count == before:
            problems.add(f"{path}: the file has no rows")
    return rows


def read_labelled(
    path: Path, columns: Columns, task: TaskName = "text-classification"
) -> list[LabelledRow]:
    """One file's labelled rows outside a recipe's splits: answers, stored traffic.

    Raises DatasetError with all problems.
    """
    problems = Problems()
    data = Data(files=(path,), columns=columns)
    rows = read_files([path], Wanted.of(data, task), problems)
    problems.raise_if_any()
    log_warnings(problems)
    return [to_labelled(row) for row in rows]


@dataclass(frozen=True)
class TrafficRow:
    """A row of stored traffic. `label`: in one word, several divided by "|", None where the file
    has none; `time`: as the file has it."""

    row: Row
    label: str | None
    time: Any


def read_traffic(path: Path, columns: Columns) -> list[TrafficRow]:
    """One file's texts in order; of the other columns only those are read that are there: id, label
    and the first of TIME_COLUMNS. Raises DatasetError with all problems."""
    problems = Problems()
    wanted = replace(
        Wanted.of(Data(files=(path,), columns=columns), "text-classification"),
        is_labelled=False,
        optional=(columns.label, *TIME_COLUMNS),
    )
    rows, made = [], dict[str, int]()
    for line, cells in _cells(path, wanted, problems):
        row = make_row(RowCells(f"{path}:{line}", cells, wanted, problems))
        if row is not None:
            time = next((cells[name] for name in TIME_COLUMNS if cells.get(name)), None)
            label = _one_word(cells.get(columns.label))
            rows.append(TrafficRow(row if row.id else _with_id(row, made), label, time))
    if not rows and not problems.count:
        problems.add(f"{path}: the file has no rows")
    problems.raise_if_any()
    log_warnings(problems)
    return rows


def _one_word(label: Any) -> str | None:
    if isinstance(label, list):
        return LABEL_DIVIDER.join(map(str, label))
    return None if is_blank(label) else str(label).strip()


def log_warnings(problems: Problems) -> None:
    """For the commands that hand no warnings on."""
    for warning in problems.warnings:
        logger.warning("%s", warning)


def _cells(path: Path, wanted: Wanted, problems: Problems) -> Iterator[tuple[int, Cells]]:
    """(line, cells) of one file by its kind."""
    reader = READERS.get(kind_of(path))
    if not path.exists():
        problems.add(f"{path}: there is no such file")
    elif reader is None:
        suffixes = ", ".join(sorted(kind for kind in READERS if kind != FOLDER))
        problems.add(
            f"{path}: unknown kind {path.suffix!r}; use {suffixes} or the folder of a Hugging "
            "Face dataset"
        )
    else:
        yield from reader(path, wanted, problems)


def _with_id(row: Row, made: dict[str, int]) -> Row:
    """An id from the content alone, so that rows keep theirs when others are added. Rows with the
    same content are told apart by a number, which says nothing of where they belong: all of them
    have the same `key`, so that they stay in one split."""
    content = row.text if row.text_pair is None else json.dumps([row.text, row.text_pair])
    digest = hashlib.sha256(content.encode()).hexdigest()[:16]
    made[digest] = made.get(digest, 0) + 1
    row_id = digest if made[digest] == 1 else f"{digest}-{made[digest]}"
    return replace(row, id=row_id, key=row.key or digest)

"""Stored traffic by its kind: files of texts with or without labels, rows that a server captured (a
folder of segments, or what `edgeloop capture export` wrote), and .npz files of scores.

Of captured rows only those are taken that the uniform draw kept: they are traffic as it came, only
thinner. Those that were kept for being unsure alone would look like drift. How many requests there
were is estimated from all of them by their inclusion probabilities.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle
from edgeloop.errors import DatasetError
from edgeloop.recipe import Columns
from edgeloop.rows import TextInput
from finetune.data import TrafficRow, read_traffic
from monitor.scored import StoredText
from serve.capture.row import CaptureRow, decode_row
from serve.capture.store import all_rows, existing_segments, read_rows

SCORES = ".npz"
PAIR_COLUMN = "text_pair"
UNIFORM = ("uniform", "both")


@dataclass(frozen=True)
class Stored:
    """A file's texts. `left_out`: captured rows that the uniform draw had not kept."""

    rows: tuple[StoredText, ...]
    left_out: int = 0
    requests: float = 0.0


def is_scores(path: Path) -> bool:
    """Whether the file holds scores, not texts."""
    return path.suffix.lower() == SCORES


def read_stored(path: Path, bundle: Bundle | None = None) -> Stored:
    """The texts of a file or folder, single ones or pairs as the bundle's model reads them (single
    ones without a bundle).

    Raises DatasetError with all problems, EdgeloopError for a folder without captured rows.
    """
    pairs = bundle is not None and bundle.manifest.text_pair
    if path.is_dir() and existing_segments(path):
        return _captured(path, all_rows(path), pairs)
    if path.is_file() and _is_captured(path):
        return _captured(path, read_rows(path), pairs)
    columns = Columns(text_pair=PAIR_COLUMN) if pairs else Columns()
    rows = read_traffic(path, columns)
    stored = tuple(_of_file(path, number, row) for number, row in enumerate(rows, 1))
    return Stored(stored, requests=float(len(stored)))


def _of_file(path: Path, number: int, row: TrafficRow) -> StoredText:
    time = _seconds(row.time)
    if time is None:
        raise DatasetError(
            f"{path}: row {number} has the time {str(row.time)[:60]!r}; write Unix seconds or ISO "
            "8601 (2026-03-01T12:00:00Z), or leave the column out"
        )
    return StoredText(row.row.id, row.row.input, row.label, time, float(number))


def _seconds(value: Any) -> float | None:
    """Unix seconds of a cell, NaN where it is empty, None for no time; UTC without a zone."""
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        at = datetime.fromisoformat(str(value).strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_captured(path: Path) -> bool:
    with path.open("rb") as stream:
        return any(decode_row(line) is not None for line in islice(stream, 1))


def _captured(path: Path, rows: Iterator[CaptureRow], pairs: bool) -> Stored:
    kept: list[StoredText] = []
    requests, seen = 0.0, 0
    for row in rows:
        seen += 1
        requests += 1.0 / row.inclusion_probability
        if row.rule in UNIFORM:
            asked = _asked(path, row, pairs)
            kept.append(StoredText(row.id, asked, None, row.time, requests))
    if not kept:
        raise DatasetError(
            f"{path}: none of its {seen} captured rows was kept by the uniform draw, so that they "
            "are no picture of the traffic; set capture.share in serve.yaml"
        )
    return Stored(tuple(kept), seen - len(kept), requests)


def _asked(path: Path, row: CaptureRow, pairs: bool) -> TextInput:
    if len(row.texts) == 2 and pairs:
        return row.texts[0], row.texts[1]
    if len(row.texts) == 1 and not pairs:
        return row.texts[0]
    words = "pairs of texts" if pairs else "single texts"
    raise DatasetError(
        f"{path}: the captured row {row.id!r} holds {len(row.texts)} texts, the model reads {words}"
    )

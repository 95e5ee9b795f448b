"""A labelled row of any task, and the jsonl of a split: the one form in which the stages hand rows
on. Read by all stages, written by finetune.

    {"id", "text", "label"}                          text-classification, one label
    {"id", "text", "labels": [...]}                  text-classification, several labels or none
    {"id", "text", "text_pair", ...}                 with a second text
    {"id", "text", "spans": [{"start", "end", "label"}]}     token-classification
    {"id", "text", "text_pair", "negatives": [...]}  text-embedding: text_pair is the positive
    ... "slices": {"column": "value"}                where the recipe names columns to slice by
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError

# What a model is asked about: a text, or a text with a second one.
TextInput = str | tuple[str, str]

# str.splitlines() takes these for line ends; JSON lets them be escaped.
LINE_SEPARATORS = ("\x85", "\u2028", "\u2029")


def whole_text(asked: TextInput) -> str:
    """All the words of a text or of a pair, for those who count words."""
    return asked if isinstance(asked, str) else "\n".join(asked)


def first_text(asked: TextInput) -> str:
    """The text that the characters of spans and offsets count in."""
    return asked if isinstance(asked, str) else asked[0]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters [start, end) of a text, and what they are."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Row:
    """`key` is what the split goes by where that is not the id: a group, a time, or the digest that
    a made id began with. `where` is the file and line; neither is written to a split."""

    id: str
    text: str
    labels: tuple[str, ...] = ()
    text_pair: str | None = None
    spans: tuple[Span, ...] = ()
    negatives: tuple[str, ...] = ()
    slices: tuple[tuple[str, str], ...] = ()
    key: str = ""
    where: str = ""

    @property
    def label(self) -> str:
        """The row's class: its label, or for several all of them, sorted ("a|b"; "" for none)."""
        return "|".join(sorted(self.labels))

    @property
    def input(self) -> TextInput:
        """What the model reads."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)


# Rows without a truth, beside the splits' files.
UNLABELLED = "unlabelled"


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """One row per line, the same bytes for the same rows; in place."""
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for row in rows:
            line = json.dumps(_document(row), sort_keys=True, ensure_ascii=False)
            for separator in LINE_SEPARATORS:
                line = line.replace(separator, f"\\u{ord(separator):04x}")
            stream.write(line + "\n")


def _document(row: Row) -> dict[str, Any]:
    document: dict[str, Any] = {"id": row.id, "text": row.text}
    if len(row.labels) == 1:
        document["label"] = row.labels[0]
    elif row.labels:
        document["labels"] = list(row.labels)
    if row.text_pair is not None:
        document["text_pair"] = row.text_pair
    if row.spans:
        document["spans"] = [{"start": s.start, "end": s.end, "label": s.label} for s in row.spans]
    if row.negatives:
        document["negatives"] = list(row.negatives)
    if row.slices:
        document["slices"] = dict(row.slices)
    return document


def read_rows(folder: Path, split: str) -> list[Row]:
    """The rows of one split of a dataset folder; empty where the split does not exist.

    Raises DatasetError where the file is not what `write_rows` writes.
    """
    path = folder / f"{split}.jsonl"
    if not path.exists():
        return []
    try:
        # Not splitlines(): a text may hold U+2028, which JSON leaves as it is.
        return [parse_row(json.loads(line)) for line in path.read_bytes().split(b"\n") if line]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DatasetError(
            f"{path}: the rows cannot be read ({problem!r}); delete the dataset folder and run "
            "again"
        ) from None


def parse_row(document: dict[str, Any]) -> Row:
    """A row from its line. Raises KeyError or TypeError for something else."""
    labels = [document["label"]] if "label" in document else document.get("labels", [])
    return Row(
        id=document["id"],
        text=document["text"],
        labels=tuple(labels),
        text_pair=document.get("text_pair"),
        spans=tuple(Span(**span) for span in document.get("spans", [])),
        negatives=tuple(document.get("negatives", [])),
        slices=tuple(document.get("slices", {}).items()),
    )

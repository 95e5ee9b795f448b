"""A file's cells -> a checked Row of the recipe's task. What is wrong is noted, each problem with
file, line, column and value; a row with a problem is not made.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from edgeloop.rows import Row, Span
from finetune.problems import Problems, shown
from finetune.readers.base import Cells
from finetune.readers.csv import MAX_CELL_BYTES
from finetune.tagging import check_spans, tagged_text
from finetune.wanted import Wanted

LABEL_DIVIDER = "|"  # of Row.label
NUMBERS_ADVICE = (
    "numbers say no names; write tags such as B-PER, or bring the dataset as the folder that "
    "datasets.save_to_disk wrote, whose features name them"
)


@dataclass(frozen=True)
class RowCells:
    """One row's cells with all that is needed to read and to complain."""

    where: str
    cells: Cells
    wanted: Wanted
    problems: Problems

    def say(self, column: str, what: str) -> None:
        """Note a problem of a column."""
        self.problems.add(f"{self.where}: {column} {what}")

    def text(self, column: str) -> str:
        """The column's text."""
        return self.checked(column, self.cells[column])

    def checked(self, column: str, value: Any) -> str:
        """A value as text; numbers and dates are written out, anything else is a problem."""
        if isinstance(value, date):
            value = value.isoformat()
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if is_blank(value):
            self.say(column, "is empty; fill it in or remove the row")
        elif not isinstance(value, str):
            self.say(column, f"is {shown(repr(value))}, text is needed")
        elif (size := _utf8_bytes(value)) is None:
            self.say(column, f"holds half a surrogate pair: {shown(ascii(value))}")
        elif size > MAX_CELL_BYTES:
            self.say(column, f"has {size} bytes, at most {MAX_CELL_BYTES}: {shown(value)}")
        else:
            return value
        return ""

    def pair(self) -> str | None:
        """The second text where the recipe names one."""
        column = self.wanted.columns.text_pair
        return None if column is None else self.text(column)

    def listed(self, column: str) -> list[Any]:
        """A list, or its JSON in a text cell; a blank cell is an empty one."""
        value = self.cells[column]
        if is_blank(value):
            return []
        if isinstance(value, str):
            with suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, dict):
            value = _transposed(value)
        if not isinstance(value, list):
            self.say(column, f"is {shown(repr(value))}, a list is needed (in a csv cell as JSON)")
            return []
        return value


Content = dict[str, Any]


def make_row(row: RowCells) -> Row | None:
    """The checked row, with the id "" where the file has none; None where something is wrong."""
    before = row.problems.count
    wanted = row.wanted
    content = CONTENTS[wanted.task](row) if wanted.is_labelled else _bare(row)
    key = "" if wanted.key is None else row.text(wanted.key)
    given = row.cells.get(wanted.columns.id)
    row_id = "" if given is None else row.checked(wanted.columns.id, given)
    slices = tuple((name, _slice(row, name)) for name in wanted.columns.slices)
    if row.problems.count > before:
        return None
    return Row(id=row_id, key=key, where=row.where, slices=slices, **content)


def is_blank(value: Any) -> bool:
    """Nothing, or white space alone."""
    return value is None or (isinstance(value, str) and not value.strip())


def _utf8_bytes(text: str) -> int | None:
    """The text's size, or None where it is no text: JSON can escape half a surrogate pair."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None


def _bare(row: RowCells) -> Content:
    return {"text": row.text(row.wanted.columns.text), "text_pair": row.pair()}


def _classified(row: RowCells) -> Content:
    columns = row.wanted.columns
    text, pair = row.text(columns.text), row.pair()
    return {"text": text, "text_pair": pair, "labels": (row.text(columns.label).strip(),)}


def _multi_labelled(row: RowCells) -> Content:
    columns = row.wanted.columns
    text, pair = row.text(columns.text), row.pair()
    value = row.cells[columns.label]
    if is_blank(value):
        parts: list[Any] = []
    elif isinstance(value, str):
        parts = value.split(row.wanted.label_separator)
    else:
        parts = value if isinstance(value, list) else [value]
    labels = [row.checked(columns.label, part).strip() for part in parts]
    for label in labels:
        if LABEL_DIVIDER in label:
            row.say(
                columns.label,
                f"holds {label!r}; {LABEL_DIVIDER!r} divides the labels of a row "
                "(data.label_separator), so no label may have it",
            )
    return {"text": text, "text_pair": pair, "labels": tuple(sorted(set(labels)))}


def _tagged(row: RowCells) -> Content:
    if row.wanted.has_tags(row.cells):
        text, spans = _from_tags(row)
    else:
        text = row.text(row.wanted.columns.text)
        spans = _from_spans(row, text)
    return {"text": text, "text_pair": row.pair(), "spans": spans}


def _from_tags(row: RowCells) -> tuple[str, tuple[Span, ...]]:
    columns = row.wanted.columns
    tokens, tags = row.listed(columns.tokens), row.listed(columns.ner_tags)
    if not tokens:
        row.say(columns.tokens, "is empty; fill it in or remove the row")
    elif len(tokens) != len(tags):
        row.say(columns.ner_tags, f"has {len(tags)} tags for {len(tokens)} tokens")
    texts = [row.checked(columns.tokens, token) for token in tokens]
    for text in texts:
        if text != text.strip():
            row.say(columns.tokens, f"holds {shown(repr(text))}; leave outer white space out")
    number = next((tag for tag in tags if not isinstance(tag, str)), None)
    if number is not None:
        row.say(columns.ner_tags, f"holds {shown(repr(number))}; {NUMBERS_ADVICE}")
    elif len(tokens) == len(tags):
        try:
            return tagged_text(texts, [row.checked(columns.ner_tags, tag) for tag in tags])
        except ValueError as problem:
            row.say(
                columns.ner_tags,
                f"holds {shown(repr(str(problem)))}; a tag is O, or B-, I-, E-, S-, L- or U- and "
                "the entity's type",
            )
    return "", ()


def _from_spans(row: RowCells, text: str) -> tuple[Span, ...]:
    column = row.wanted.columns.spans
    before = row.problems.count
    spans = [_span(row, column, value) for value in row.listed(column)]
    if row.problems.count > before or not text:
        return ()
    found = sorted(span for span in spans if span is not None)
    check_spans(text, found, lambda what: row.say(column, what))
    return tuple(found)


def _span(row: RowCells, column: str, value: Any) -> Span | None:
    fields = value if isinstance(value, dict) else {}
    start, end, label = (fields.get(name) for name in ("start", "end", "label"))
    if not (_is_index(start) and _is_index(end)) or is_blank(label):
        row.say(
            column,
            f'holds {shown(repr(value))}; a span is {{"start": 0, "end": 4, "label": "city"}}',
        )
        return None
    return Span(int(start), int(end), row.checked(column, label).strip())  # type: ignore[arg-type]


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _transposed(value: dict[str, Any]) -> Any:
    """Hugging Face's Sequence of a struct comes as a struct of lists; anything else stays."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, list) for column in columns):
        return value
    if len({len(column) for column in columns}) > 1:
        return value
    return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]


def _embedded(row: RowCells) -> Content:
    columns = row.wanted.columns
    text, positive = row.text(columns.text), row.text(columns.positive)
    value = row.cells.get(columns.negative)
    listed = value if isinstance(value, list) else [] if is_blank(value) else [value]
    negatives = tuple(row.checked(columns.negative, item) for item in listed)
    if positive and positive in negatives:
        row.say(columns.negative, f"holds the row's own {columns.positive}: {shown(positive)}")
    return {"text": text, "text_pair": positive, "negatives": negatives}


def _slice(row: RowCells, column: str) -> str:
    """Rows without a value are a slice, too."""
    value = row.cells[column]
    if is_blank(value):
        return ""
    return row.checked(column, str(value) if isinstance(value, bool | float) else value)


CONTENTS: dict[str, Callable[[RowCells], Content]] = {
    "text-classification": _classified,
    "multi-label-classification": _multi_labelled,
    "token-classification": _tagged,
    "text-embedding": _embedded,
}

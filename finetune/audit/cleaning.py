"""One row's mechanical corrections. Each keeps the spans on the characters that they mean."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgeloop.rows import Row, Span
from finetune.audit.personal import Finder, Personal, find_personal
from finetune.audit.spans import trimmed


def strip(row: Row) -> Row:
    """Outer white space off every text; a text that is nothing else stays."""
    text = row.text.strip()
    if not text:
        return row
    offset = len(row.text) - len(row.text.lstrip())
    moved = (
        Span(max(s.start - offset, 0), min(s.end - offset, len(text)), s.label) for s in row.spans
    )
    return replace(
        row,
        text=text,
        spans=tuple(span for span in moved if span.start < span.end),
        text_pair=None if row.text_pair is None else row.text_pair.strip() or row.text_pair,
        negatives=tuple(negative.strip() or negative for negative in row.negatives),
    )


def trim(row: Row) -> Row:
    """Span borders off white space and commas; a span of nothing else goes."""
    return replace(
        row, spans=tuple(t for s in row.spans if (t := trimmed(row.text, s)) is not None)
    )


@dataclass(frozen=True)
class Masker:
    """Writes <email>, <phone>, ... in the place of personal data."""

    finders: Sequence[tuple[str, Finder]]

    def __call__(self, row: Row) -> Row:
        items = find_personal(row.text, self.finders)
        spans = tuple(
            Span(_moved(s.start, items, False), _moved(s.end, items, True), s.label)
            for s in row.spans
        )
        return replace(
            row,
            text=_replaced(row.text, items),
            spans=spans,
            text_pair=None if row.text_pair is None else self.mask(row.text_pair),
            negatives=tuple(self.mask(negative) for negative in row.negatives),
        )

    def mask(self, text: str) -> str:
        """A text without its personal data."""
        return _replaced(text, find_personal(text, self.finders))

    def shape(self, text: str) -> str:
        """A text whose personal data shows its shape alone: what the log may hold."""
        for item in reversed(find_personal(text, self.finders)):
            hidden = re.sub(r"\w", "*", text[item.start : item.end])
            text = text[: item.start] + hidden + text[item.end :]
        return text


def _placeholder(item: Personal) -> str:
    return f"<{item.kind}>"


def _replaced(text: str, items: Sequence[Personal]) -> str:
    for item in reversed(items):
        text = text[: item.start] + _placeholder(item) + text[item.end :]
    return text


def _moved(place: int, items: Sequence[Personal], is_end: bool) -> int:
    """Where a border lies after the replacement; one inside personal data takes in all of it."""
    shift = 0
    for item in items:
        if place >= item.end:
            shift += len(_placeholder(item)) - (item.end - item.start)
        elif place > item.start:
            place = item.start + (len(_placeholder(item)) if is_end else 0)
            break
        else:
            break
    return place + shift

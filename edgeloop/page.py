"""Pieces of the HTML report that several of its sections use."""

import html
from collections.abc import Iterable, Sequence

from edgeloop.records import Interval

NUMBER = ' class="number"'


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; numbers are set right-aligned, and so are their columns' heads."""
    listed = [tuple(row) for row in rows]
    first = listed[0] if listed else ()
    numbers = [i < len(first) and _is_number(first[i]) for i in range(len(head))]
    top = "".join(
        f"<th{NUMBER if is_number else ''}>{html.escape(cell)}</th>"
        for cell, is_number in zip(head, numbers, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in listed)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if not _is_number(value):
        return f"<td>{html.escape(str(value))}</td>"
    assert isinstance(value, int | float)
    digits = 0 if isinstance(value, int) else 1 if abs(value) >= 10 else 3
    text = f"{value:,.{digits}f}"
    return f"<td{NUMBER}>{text}</td>"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def paragraph(text: str, style: str = "") -> str:
    """Text as a paragraph."""
    kind = f' class="{style}"' if style else ""
    return f"<p{kind}>{html.escape(text)}</p>"


def folded(title: str, body: str) -> str:
    """A part that is opened by a click."""
    return f"<details><summary>{html.escape(title)}</summary>{body}</details>"


def spread(interval: Interval) -> str:
    """An interval's ends."""
    return f"{interval.low:.3f} to {interval.high:.3f}"

"""Pieces of the HTML report that several of its sections use."""

import html
from collections.abc import Iterable, Sequence

from edgeloop.records import Interval


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; numbers are set right-aligned."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{html.escape(str(value))}</td>"
    digits = 0 if isinstance(value, int) else 1 if abs(value) >= 10 else 3
    text = f"{value:,.{digits}f}"
    return f'<td class="number">{text}</td>'


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

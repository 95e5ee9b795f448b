"""Text tables and figures as people read them."""

from collections.abc import Iterable, Sequence

MEGABYTE = 1_000_000


def percent(ratio: float) -> str:
    """0.995 is 99.5%, not 100%."""
    return f"{100.0 * ratio:g}%"


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A text table with aligned columns."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

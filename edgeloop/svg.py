"""Plots as inline SVG, drawn without a library: reports are written on the boxes that serve.
Colours come from the page's style sheet, so that they fit a light and a dark screen. All texts are
escaped.
"""

import html
import math
from collections.abc import Sequence

WIDTH = 720.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 12.0, 40.0
TICKS = 5
LONGEST_NAME = 26
MOST_NAME = 60
MOST_RATIO = 3.0

Point = tuple[float, float]


def figure(title: str, width: float, height: float, body: str) -> str:
    """An <svg> element that scrolls on its own where the screen is narrow."""
    return (
        f'<div class="plot"><svg role="img" viewBox="0 0 {width:g} {height:g}" '
        f'style="min-width:{min(width, 520.0):g}px" '
        f'aria-label="{html.escape(title)}">{body}</svg></div>'
    )


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "") -> str:
    """A text; `anchor` is start, middle or end."""
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{html.escape(words)}</text>'


def short(name: str, most: int = LONGEST_NAME) -> str:
    """A name that fits."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def number(value: float) -> str:
    """A number as an axis has it."""
    if not math.isfinite(value):
        return "–"
    if value != 0.0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.3g}"


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers within [low, high]."""
    step = 10.0 ** math.floor(math.log10(max(high - low, 1e-12) / TICKS))
    step *= next(m for m in (1.0, 2.0, 5.0, 10.0) if (high - low) / (step * m) <= TICKS)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


class Axes:
    """Maps data to the figure and draws the frame."""

    def __init__(self, x: Point, y: Point, height: float) -> None:
        self.x, self.y, self.height = x, y, height

    def at(self, x: float, y: float) -> Point:
        """Where a point of the data lies."""
        across = (x - self.x[0]) / max(self.x[1] - self.x[0], 1e-12)
        up = (y - self.y[0]) / max(self.y[1] - self.y[0], 1e-12)
        room = self.height - TOP - BOTTOM
        return LEFT + across * (WIDTH - LEFT - RIGHT), TOP + (1.0 - up) * room

    def frame(self, x_words: str, y_words: str) -> str:
        """Grid lines, numbers and the axes' names."""
        parts = []
        for value in ticks(*self.y):
            left, y = self.at(self.x[0], value)
            parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{WIDTH - RIGHT:.1f}"/>')
            parts.append(text(left - 6.0, y + 4.0, number(value), "end"))
        bottom = self.height - BOTTOM
        for value in ticks(*self.x):
            x, _ = self.at(value, self.y[0])
            parts.append(f'<path class="axis" d="M{x:.1f} {bottom:.1f}v4"/>')
            parts.append(text(x, bottom + 16.0, number(value), "middle"))
        parts.append(f'<path class="axis" d="M{LEFT} {bottom:.1f}H{WIDTH - RIGHT:.1f}"/>')
        middle = (LEFT + WIDTH - RIGHT) / 2.0
        parts.append(text(middle, self.height - 6.0, x_words, "middle"))
        parts.append(
            f'<text transform="translate(12 {(TOP + bottom) / 2.0:.1f}) rotate(-90)" '
            f'text-anchor="middle">{html.escape(y_words)}</text>'
        )
        return "".join(parts)

    def line(self, points: Sequence[Point], style: str) -> str:
        """A line through points."""
        if len(points) == 1:
            x, y = self.at(*points[0])
            return f'<circle class="{style} dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        path = "L".join("{:.1f} {:.1f}".format(*self.at(*point)) for point in points)
        return f'<path class="{style}" d="M{path}"/>' if points else ""

    def level(self, y: float, style: str, words: str) -> str:
        """A line across, with a name."""
        x, at = self.at(self.x[0], y)
        line = f'<path class="{style}" d="M{x:.1f} {at:.1f}H{WIDTH - RIGHT:.1f}"/>'
        return line + text(x + 6.0, at - 5.0, words, "start", "small")

    def mark(self, x: float, style: str, words: str) -> str:
        """A line upwards; its name shows where the mouse is."""
        at, top = self.at(x, self.y[1])
        return (
            f'<path class="{style}" d="M{at:.1f} {top:.1f}V{self.height - BOTTOM:.1f}">'
            f"<title>{html.escape(words)}</title></path>"
        )


def evidence(
    points: Sequence[Point],
    threshold_words: str,
    alarms: Sequence[tuple[float, str]],
    onsets: Sequence[tuple[float, str]],
) -> str:
    """Evidence over the threshold by row, with alarms and onsets at their rows."""
    height = 260.0
    last = max([x for x, _ in points], default=1.0)
    highest = max([y for _, y in points] + [1.0])
    # Evidence is capped far above any threshold: showing all of it would flatten the rest.
    top = min(highest, MOST_RATIO) * 1.12
    lowest = max(min([y for _, y in points] + [0.0]), -0.5)
    axes = Axes((0.0, max(last, 1.0)), (lowest, top), height)
    shown = [(x, min(max(y, lowest), top)) for x, y in points]
    body = axes.frame("row", "evidence / threshold")
    body += "".join(axes.mark(x, "onset", words) for x, words in onsets)
    body += "".join(axes.mark(x, "alarmed", words) for x, words in alarms)
    body += axes.line(shown, "second line") + axes.level(1.0, "limit", threshold_words)
    return figure("Evidence for drift by row", WIDTH, height, body)


def share_over_time(
    points: Sequence[tuple[float, float, float, float]],
    words: str,
    others: Sequence[tuple[str, Sequence[Point]]] = (),
    limit: float | None = None,
) -> str:
    """(row, share, low, high) of each window, with a band from low to high; `others`: more lines,
    each a style and points (row, share); `limit`: a line across."""
    height = 220.0
    more = [point for _, own in others for point in own]
    shares = [low for _, _, low, _ in points] + [share for _, share in more]
    lowest = min([*shares, 0.95] + ([] if limit is None else [limit - 0.05]))
    last = max([x for x, *_ in points] + [x for x, _ in more], default=1.0)
    axes = Axes((0.0, last), (lowest, 1.0), height)
    upper = [axes.at(x, high) for x, _, _, high in points]
    lower = [axes.at(x, low) for x, _, low, _ in reversed(points)]
    band = "L".join(f"{x:.1f} {y:.1f}" for x, y in upper + lower)
    body = axes.frame("row", words) + (f'<path class="band" d="M{band}Z"/>' if band else "")
    body += axes.line([(x, y) for x, y, _, _ in points], "accent line")
    body += "".join(axes.line(own, style) for style, own in others)
    body += "" if limit is None else axes.level(limit, "limit", "floor")
    return figure(words, WIDTH, height, body)


def histogram(reference: Sequence[float], recent: Sequence[float], title: str) -> str:
    """Two shares per bin, side by side."""
    width, height = 190.0, 64.0
    highest = max([*reference, *recent, 1e-9])
    slot = (width - 4.0) / max(len(reference), 1)
    bars = []
    for place, (known, new) in enumerate(zip(reference, recent, strict=True)):
        for offset, share, style in ((0.08, known, "second"), (0.5, new, "accent")):
            tall = (height - 6.0) * share / highest
            bars.append(
                f'<rect class="{style}" x="{2.0 + (place + offset) * slot:.1f}" '
                f'y="{height - 3.0 - tall:.1f}" width="{0.42 * slot:.1f}" height="{tall:.1f}"/>'
            )
    body = f'{"".join(bars)}<path class="axis" d="M2 {height - 3.0:g}H{width - 2.0:g}"/>'
    return (
        f'<svg class="bins" role="img" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" aria-label="{html.escape(title)}">{body}</svg>'
    )


def grid(
    names: Sequence[str],
    shades: Sequence[Sequence[float]],
    marked: Sequence[Sequence[bool]],
    titles: Sequence[Sequence[str]],
    columns_words: str,
) -> str:
    """A row of cells per name, the darker the larger (0 to 1), those marked in another colour."""
    left, cell = 190.0, 18.0
    count = max(map(len, shades), default=0)
    across = (WIDTH - left - RIGHT) / max(count, 1)
    height = TOP + cell * len(names) + 26.0
    parts = []
    for row, name in enumerate(names):
        y = TOP + row * cell
        parts.append(
            f"<g>{text(left - 8.0, y + 13.0, short(name), 'end')}"
            f"<title>{html.escape(short(name, MOST_NAME))}</title></g>"
        )
        for column, shade in enumerate(shades[row]):
            style = "accent" if marked[row][column] else "second"
            parts.append(
                f'<rect class="{style}" x="{left + column * across:.1f}" y="{y + 1.0:.1f}" '
                f'width="{max(across - 1.0, 0.5):.1f}" height="{cell - 2.0:g}" '
                f'fill-opacity="{0.08 + 0.92 * min(max(shade, 0.0), 1.0):.2f}">'
                f"<title>{html.escape(titles[row][column])}</title></rect>"
            )
    parts.append(text((left + WIDTH - RIGHT) / 2.0, height - 6.0, columns_words, "middle"))
    return figure("Windows by feature", WIDTH, height, "".join(parts))


def pairs(rows: Sequence[tuple[str, float, float]], title: str) -> str:
    """Two shares per name as bars, one below the other."""
    left, slot = 190.0, 34.0
    height = TOP + slot * len(rows) + 6.0
    highest = max([max(known, new) for _, known, new in rows], default=1.0) or 1.0
    room = WIDTH - left - RIGHT - 60.0
    parts = []
    for place, (name, known, new) in enumerate(rows):
        y = TOP + place * slot
        parts.append(
            f"<g>{text(left - 8.0, y + 18.0, short(name), 'end')}"
            f"<title>{html.escape(short(name, MOST_NAME))}</title></g>"
        )
        for offset, share, style in ((2.0, known, "second"), (15.0, new, "accent")):
            wide = room * share / highest
            parts.append(
                f'<rect class="{style}" x="{left:g}" y="{y + offset:.1f}" width="{wide:.1f}" '
                'height="11"/>'
            )
            parts.append(text(left + wide + 6.0, y + offset + 9.5, f"{share:.1%}", style="small"))
    return figure(title, WIDTH, height, "".join(parts))

"""Where the model is weaker: rows by length, by script and by the columns that the recipe names.

Many slices are looked at, so that one of them looks bad by chance. A slice is called worse only if
its exact interval leaves the whole's figure out at the level of Holm's correction (Holm 1979) over
all slices with enough rows. Wilson's interval, which is shown, is too liberal for that where nearly
all rows are right.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgeloop.records import Interval
from edgeloop.records_evaluation import Slice
from edgeloop.rows import Row

FEWEST_ROWS = 30
# Values of a column with fewer rows than that, which are still shown one by one.
RARE_VALUES = 10
CONFIDENCE = 0.95

LENGTHS = ("short", "medium", "long")

Mask = NDArray[np.bool_]
# Column, value, and which rows have it: (rows,).
Group = tuple[str, str, Mask]


def slices(rows: Sequence[Row], right: Mask) -> tuple[tuple[Slice, ...], str | None]:
    """All slices, and the name of the worst one that is below the whole by more than chance.

    `right` (rows,): which rows are answered rightly.
    """
    return judge_groups(groups(rows), right)


def judge_groups(groups: Sequence[Group], right: Mask) -> tuple[tuple[Slice, ...], str | None]:
    """`slices` of groups that are made already."""
    overall = float(right.mean())
    judged = [g for g in groups if g[2].sum() >= FEWEST_ROWS]
    p_values = [_p_value(int(right[m].sum()), int(m.sum()), overall) for _, _, m in judged]
    below = {
        (column, value)
        for (column, value, mask), rejected in zip(judged, holm(p_values), strict=True)
        if rejected and right[mask].mean() < overall
    }
    found = tuple(_slice(*group, right, (group[0], group[1]) in below) for group in groups)
    worst = min((s for s in found if s.differs), key=lambda s: s.right.value, default=None)
    return found, None if worst is None else worst.name


def _slice(column: str, value: str, mask: Mask, right: Mask, differs: bool) -> Slice:
    rows = int(mask.sum())
    return Slice(
        column=column,
        value=value,
        rows=rows,
        right=wilson(int(right[mask].sum()), rows),
        too_few=rows < FEWEST_ROWS,
        differs=differs,
    )


def groups(rows: Sequence[Row]) -> list[Group]:
    """Every slice that is not all of the rows."""
    return [group for group in _every_group(rows) if not group[2].all()]


def _every_group(rows: Sequence[Row]) -> Iterator[Group]:
    columns = {"length": _lengths(rows), "script": [script(row.text) for row in rows]}
    for name in dict.fromkeys(name for row in rows for name, _ in row.slices):
        columns[name] = _pooled([dict(row.slices).get(name, "(none)") for row in rows])
    for name, values in columns.items():
        array = np.array(values, dtype=object)
        for value in sorted(set(values), key=_place):
            yield name, value, np.asarray(array == value, dtype=bool)


def _place(value: str) -> tuple[int, str]:
    """Lengths from short to long, other values by their names."""
    first = value.split(" ")[0]
    return (LENGTHS.index(first) if first in LENGTHS else 0), value


def _pooled(values: list[str]) -> list[str]:
    """A column of names or numbers has a value per row: the rarest are taken as one."""
    counts = Counter(values)
    rare = [value for value, rows in counts.most_common() if rows < FEWEST_ROWS][RARE_VALUES:]
    together = dict.fromkeys(rare, f"({len(rare)} rare values)")
    return [together.get(value, value) for value in values]


def _lengths(rows: Sequence[Row]) -> list[str]:
    """The tercile of each row's characters, those of a second text included."""
    lengths = np.array([len(row.text) + len(row.text_pair or "") for row in rows])
    low, high = (int(q) for q in np.quantile(lengths, (1 / 3, 2 / 3), method="lower"))
    names = (
        f"{LENGTHS[0]} (up to {low} characters)",
        f"{LENGTHS[1]} ({low + 1} to {high} characters)",
        f"{LENGTHS[2]} (over {high} characters)",
    )
    return [names[int(length > low) + int(length > high)] for length in lengths]


def script(text: str) -> str:
    """The script of most of the letters ("latin", "cyrillic", "cjk", ...), "none" without any."""
    counts = Counter(_script_of(character) for character in text if character.isalpha())
    return counts.most_common(1)[0][0] if counts else "none"


@lru_cache(maxsize=4096)
def _script_of(character: str) -> str:
    """The first word of the character's name, which is its script."""
    return unicodedata.name(character, "unnamed").split()[0].split("-")[0].lower()


def wilson(successes: int, rows: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927). Raises ValueError without rows."""
    if rows < 1 or not 0 <= successes <= rows:
        raise ValueError(f"{successes} successes of {rows} rows is not a proportion")
    z = float(stats.norm.ppf((1.0 + confidence) / 2.0))
    share, weight = successes / rows, z * z / rows
    middle = (share + weight / 2.0) / (1.0 + weight)
    half = z * np.sqrt(share * (1.0 - share) / rows + weight / (4.0 * rows)) / (1.0 + weight)
    # Rounding must not put an end on the wrong side of the share itself.
    return Interval(
        value=share,
        low=float(np.clip(middle - half, 0.0, share)),
        high=float(np.clip(middle + half, share, 1.0)),
    )


def _p_value(successes: int, rows: int, overall: float) -> float:
    """Twice the smaller binomial tail: below alpha where the interval of Clopper and Pearson at
    1 - alpha leaves `overall` out."""
    tails = (
        stats.binom.cdf(successes, rows, overall),
        stats.binom.sf(successes - 1, rows, overall),
    )
    return float(min(1.0, 2.0 * min(tails)))


def holm(p_values: Sequence[float], alpha: float = 1.0 - CONFIDENCE) -> list[bool]:
    """Which hypotheses are rejected, with at most `alpha` chance of any false one (Holm 1979)."""
    rejected = [False] * len(p_values)
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] > alpha / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected

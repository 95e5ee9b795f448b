"""Parts of the rows that are looked at by themselves: by length, by script and by the columns that
the recipe names.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeloop.rows import Row

# A slice with fewer rows is shown and never judged.
FEWEST_ROWS = 30
# Values of a column with fewer rows than that, which are still shown one by one.
RARE_VALUES = 10

LENGTHS = ("short", "medium", "long")

Mask = NDArray[np.bool_]
# Column, value, and which rows have it: (rows,).
Group = tuple[str, str, Mask]


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

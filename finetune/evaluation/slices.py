"""Where the model is weaker: rows by length, by script and by the columns that the recipe names.

Many slices are looked at, so that one of them looks bad by chance. A slice is called worse only if
its exact interval leaves the whole's figure out at the level of Holm's correction (Holm 1979) over
all slices with enough rows. Wilson's interval, which is shown, is too liberal for that where nearly
all rows are right.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from edgeloop.records import Interval
from edgeloop.records_evaluation import Slice
from edgeloop.rows import Row
from edgeloop.slices import FEWEST_ROWS, Group, Mask, groups

CONFIDENCE = 0.95


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

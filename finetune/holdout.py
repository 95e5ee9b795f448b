"""Sets a part of the training rows apart, to judge the trials of a search on. The recipe's own
validation and test rows are never among them.
"""

from collections.abc import Callable, Iterable, Sequence
from math import ceil

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe, Split, SplitFiles
from edgeloop.rows import Row
from finetune.dataset import load
from finetune.split import digest_ratio

# Which split a row is in follows from its digest: salted, what is set apart is no corner of train.
SALT = "holdout:"


def hold_out(rows: Sequence[Row], recipe: Recipe, ratio: float) -> tuple[list[Row], list[Row]]:
    """(rows to train on, rows to judge on), both in the order of `rows`; `ratio` in (0, 1) of
    them are set apart as the recipe splits: the newest by time, whole groups, the same share of
    each class, or by each row's own digest alone.

    Raises DatasetError where either part would be empty.
    """
    is_split = isinstance(recipe.data.files, SplitFiles)
    split = Split() if is_split else recipe.data.split
    if split.time is not None:
        # Train is written oldest first, labelled rows from production after it.
        apart = {row.id for row in rows[len(rows) - ceil(len(rows) * ratio) :]}
    elif split.group is not None:
        # A split's file has no groups.
        groups = {row.id: row.key for row in load(recipe).splits["train"]}
        apart = _by_digest(rows, ratio, lambda row: groups.get(row.id, row.id))
    elif split.stratify:
        apart = _of_each_class(rows, ratio)
    else:
        apart = _by_digest(rows, ratio, lambda row: row.id)
    if not 0 < len(apart) < len(rows):
        raise DatasetError(
            f"finetune.search.holdout: {ratio:g} of {len(rows)} training rows sets {len(apart)} "
            "apart; both parts need rows: add rows or change it"
        )
    return [row for row in rows if row.id not in apart], [row for row in rows if row.id in apart]


def _digest(text: str) -> float:
    return digest_ratio(SALT + text)


def _by_digest(rows: Iterable[Row], ratio: float, subject: Callable[[Row], str]) -> set[str]:
    return {row.id for row in rows if _digest(subject(row)) < ratio}


def _of_each_class(rows: Iterable[Row], ratio: float) -> set[str]:
    """The same share of each class, rounded up or down by the class's digest so that the whole
    keeps to the ratio; a class's last row stays."""
    by_label: dict[str, list[str]] = {}
    for row in rows:
        by_label.setdefault(row.label, []).append(row.id)
    apart: set[str] = set()
    for label, ids in by_label.items():
        whole, part = divmod(len(ids) * ratio, 1.0)
        count = min(int(whole) + (_digest(f"class:{label}") < part), len(ids) - 1)
        apart.update(sorted(ids, key=_digest)[:count])
    return apart

"""Classes that are rare, missing in a split, or far rarer than others."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, count
from finetune.dataset import taught

SMALL_CLASS_ROWS = 5
TRAIN = "train"


def check_classes(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Labels, or for token-classification entity types, by the rows that have them."""
    counts = {name: class_counts(rows) for name, rows in splits.items()}
    found = [_imbalance(counts, recipe), *_missing(counts), _tiny(splits, counts)]
    return [finding for finding in found if finding is not None]


def class_counts(rows: Iterable[Row]) -> Counter[str]:
    """Rows per class."""
    return Counter(name for row in rows for name in set(taught(row)))


def _imbalance(counts: dict[str, Counter[str]], recipe: Recipe) -> Finding | None:
    train = counts.get(TRAIN, Counter())
    if len(train) < 2:
        return None
    ordered = sorted(train.items(), key=lambda item: (-item[1], item[0]))
    (largest, most), (smallest, least) = ordered[0], ordered[-1]
    if most / least <= recipe.data.audit.max_class_ratio:
        return None
    return Finding(
        kind="class-imbalance",
        severity="warning",
        message=f"{largest!r} has {most} train rows, {smallest!r} has {least}: "
        f"{most / least:.1f} times as many, more than {recipe.data.audit.max_class_ratio:g} "
        "(data.audit.max_class_ratio)",
        suggestion=f"add rows to {smallest!r}, or judge by macro F1 and per class, not by accuracy",
        details=tuple({"class": name, "rows": number} for name, number in ordered),
    )


def _missing(counts: dict[str, Counter[str]]) -> list[Finding]:
    everywhere = sorted(set().union(*counts.values()))
    found = []
    for split, there in counts.items():
        missing = [name for name in everywhere if name not in there]
        if missing:
            found.append(
                Finding(
                    kind="class-missing",
                    severity="warning",
                    message=f"{split} has no row of {_names(missing)}",
                    suggestion="a class is neither learnt nor measured where it has no rows; add "
                    "some, or let data.split stratify",
                    details=tuple({"class": name, "split": split} for name in missing),
                )
            )
    return found


def _tiny(splits: Splits, counts: dict[str, Counter[str]]) -> Finding | None:
    tiny = sorted(n for n, rows in counts.get(TRAIN, Counter()).items() if rows < SMALL_CLASS_ROWS)
    if not tiny:
        return None
    members: dict[str, list[str]] = defaultdict(list)
    for row in splits[TRAIN]:
        for name in set(taught(row)):
            members[name].append(row.id)
    return Finding(
        kind="tiny-class",
        severity="warning",
        message=f"{count(len(tiny), 'class', 'classes')} with "
        f"fewer than {SMALL_CLASS_ROWS} train rows: {_names(tiny)}",
        rows=tuple(dict.fromkeys(row for name in tiny for row in members[name])),
        suggestion="add rows, or merge them with a class that means nearly the same",
        details=tuple({"class": name, "rows": members[name]} for name in tiny),
    )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"

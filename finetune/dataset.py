"""Rows in the team's files -> checked splits. Reads what recipe.data names; `audit` tells what is
there without writing (`edgeloop check`), `prepare` in stage.py writes it. Needs no torch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from edgeloop.recipe import Data, Recipe, SplitFiles
from edgeloop.records import SPLITS
from finetune.data import Problems, Row, read_rows
from finetune.split import divide


@dataclass(frozen=True)
class Rows:
    """Checked rows per split; without a reference of its own, the test rows serve as one."""

    splits: dict[str, list[Row]]
    reference_is_test: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Audit:
    """What `edgeloop check` tells of the rows: per split, and per split and label."""

    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    reference_is_test: bool
    warnings: tuple[str, ...]


def audit(recipe: Recipe) -> Audit:
    """Read and check every row; nothing is written.

    Raises DatasetError that names all problems (at most 20 lines).
    """
    rows = load(recipe.data)
    return Audit(
        rows={name: len(split) for name, split in rows.splits.items()},
        labels={
            name: dict(sorted(Counter(row.label for row in split).items()))
            for name, split in rows.splits.items()
        },
        reference_is_test=rows.reference_is_test,
        warnings=rows.warnings,
    )


def load(data: Data) -> Rows:
    """Every row of the recipe's files in its split. Raises DatasetError with all problems."""
    problems = Problems()
    splits = _read_splits(data, problems)
    _check_ids(splits, problems)
    _check_labels(splits, problems)
    problems.raise_if_any()
    warnings = (*_repeats(splits), *_crossings(splits))
    own_reference = "reference" in splits
    if not own_reference:
        splits["reference"] = list(splits["test"])
    return Rows({name: splits[name] for name in SPLITS}, not own_reference, warnings)


def source_files(data: Data) -> list[tuple[str, Path]]:
    """(split or "rows", file) for every file that the recipe names."""
    if not isinstance(data.files, SplitFiles):
        return [("rows", path) for path in data.files]
    return [(name, path) for name, paths in data.files if paths for path in paths]


def normalised(text: str) -> str:
    """A text without its case and white space: what counts as the same text."""
    return " ".join(text.casefold().split())


def _read_splits(data: Data, problems: Problems) -> dict[str, list[Row]]:
    if isinstance(data.files, SplitFiles):
        return {
            name: read_rows(paths, data.columns, None, problems)
            for name, paths in data.files
            if paths is not None
        }
    key = data.split.group or data.split.time
    rows = read_rows(data.files, data.columns, key, problems)
    if problems.count:
        # What is left of the rows divides differently: problems of the splits would mislead.
        return {"train": rows}
    return divide(rows, data.split, problems)


def _check_ids(splits: dict[str, list[Row]], problems: Problems) -> None:
    first: dict[str, str] = {}
    for row in _all(splits):
        if row.id in first:
            problems.add(f"{row.where}: id {row.id!r} is taken by {first[row.id]}; ids are unique")
        else:
            first[row.id] = row.where


def _check_labels(splits: dict[str, list[Row]], problems: Problems) -> None:
    if problems.count:
        return  # rows are missing: what the labels look like without them says nothing
    for name, rows in splits.items():
        if not rows:
            problems.add(f"{name}: the split has no rows; add rows or raise its share")
    counts = Counter(row.label for row in _all(splits))
    if len(counts) == 1:
        first = next(iter(_all(splits)))
        problems.add(
            f"{first.where}: this row and all others have the label {first.label!r}; "
            "two classes are needed"
        )
    seen = {row.label for row in splits["train"]}
    for name, row in ((name, row) for name, rows in splits.items() for row in rows):
        if counts[row.label] == 1:
            problems.add(
                f"{row.where}: label {row.label!r} has this one row; a class needs at least 2"
            )
        elif row.label not in seen:
            seen.add(row.label)
            problems.add(
                f"{row.where}: label {row.label!r} is in {name} but not in train; add train rows "
                "with it, or leave the split to data.split with stratify"
            )


def _all(splits: dict[str, list[Row]]) -> Iterable[Row]:
    return (row for rows in splits.values() for row in rows)


def _repeats(splits: dict[str, list[Row]]) -> list[str]:
    said = []
    for name, rows in splits.items():
        repeated = repeats(rows, lambda row: row.text)
        if repeated:
            said.append(
                f"{name}: {len(repeated)} rows repeat the text of another (first: "
                f"{repeated[0].where})"
            )
    return said


def repeats(rows: Sequence[Row], subject: Callable[[Row], str]) -> list[Row]:
    """The rows whose subject an earlier row has."""
    seen: set[str] = set()
    found = []
    for row in rows:
        if subject(row) in seen:
            found.append(row)
        seen.add(subject(row))
    return found


def _crossings(splits: dict[str, list[Row]]) -> list[str]:
    texts = {
        name: {normalised(row.text): row.where for row in rows} for name, rows in splits.items()
    }
    said = []
    for left, right in combinations(texts, 2):
        shared = sorted(texts[left].keys() & texts[right].keys())
        if shared:
            said.append(
                f"{left} and {right} share {len(shared)} texts (first: "
                f"{texts[left][shared[0]]} and {texts[right][shared[0]]})"
            )
    return said

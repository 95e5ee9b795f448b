"""Rows in the team's files -> checked splits. Reads what recipe.data names; `audit` tells what is
there without writing (`edgeloop check`), `prepare` in stage.py writes it. Needs no torch.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from edgeloop.recipe import Data, Recipe, SplitFiles
from edgeloop.records import SPLITS
from edgeloop.rows import UNLABELLED, Row
from finetune.data import Problems, Wanted, read_files
from finetune.split import divide

Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class Rows:
    """Checked rows per split; without a reference of its own, the test rows serve as one."""

    splits: Splits
    reference_is_test: bool
    warnings: tuple[str, ...]
    unlabelled: tuple[Row, ...] = ()


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
    return summarise(load(recipe))


def summarise(rows: Rows) -> Audit:
    """Rows per split, and per split and label as the task has them: classes, each of several
    labels, or the types of the spans."""
    return Audit(
        rows={name: len(split) for name, split in rows.splits.items()},
        labels={
            name: dict(sorted(Counter(label for row in split for label in taught(row)).items()))
            for name, split in rows.splits.items()
        },
        reference_is_test=rows.reference_is_test,
        warnings=rows.warnings,
    )


def load(recipe: Recipe) -> Rows:
    """Every row of the recipe's files in its split. Raises DatasetError with all problems."""
    problems = Problems()
    splits = _read_splits(recipe, problems)
    _check_ids(splits, problems)
    if not problems.count:
        # With rows missing, what the splits and labels look like says nothing.
        _check_sizes(splits, problems)
        CHECKS[recipe.task](splits, problems)
    problems.raise_if_any()
    warnings = (*problems.warnings, *_repeats(splits), *_crossings(splits))
    own_reference = "reference" in splits
    if not own_reference:
        splits["reference"] = list(splits["test"])
    unlabelled, said = _read_unlabelled(recipe, splits)
    ordered = {name: splits[name] for name in SPLITS}
    return Rows(ordered, not own_reference, (*warnings, *said), unlabelled)


def outside(rows: Iterable[Row], splits: Splits) -> list[Row]:
    """The rows whose text stands in no split."""
    seen = {normalised(content(row)) for split in splits.values() for row in split}
    return [row for row in rows if normalised(content(row)) not in seen]


def source_files(data: Data) -> list[tuple[str, Path]]:
    """(split, "rows" or "unlabelled", file) for every file that the recipe names; a folder is all
    its files."""
    if isinstance(data.files, SplitFiles):
        named = [(name, path) for name, paths in data.files if paths for path in paths]
    else:
        named = [("rows", path) for path in data.files]
    named += [(UNLABELLED, path) for path in data.unlabelled]
    return [(name, file) for name, path in named for file in files_of(path)]


def files_of(path: Path) -> list[Path]:
    """A file, or every file of a dataset's folder."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file())


def taught(row: Row) -> tuple[str, ...]:
    """What a row teaches: its labels, and the type of each of its spans."""
    return (*row.labels, *(span.label for span in row.spans))


def normalised(text: str) -> str:
    """A text without its case and white space: what counts as the same text."""
    return " ".join(text.casefold().split())


def content(row: Row) -> str:
    """All that the model reads of a row, in one text."""
    return row.text if row.text_pair is None else f"{row.text}\x1e{row.text_pair}"


def _read_splits(recipe: Recipe, problems: Problems) -> Splits:
    data = recipe.data
    if isinstance(data.files, SplitFiles):
        wanted = Wanted.of(data, recipe.task)
        return {
            name: read_files(paths, wanted, problems)
            for name, paths in data.files
            if paths is not None
        }
    wanted = Wanted.of(data, recipe.task, data.split.group or data.split.time)
    rows = read_files(data.files, wanted, problems)
    if problems.count:
        # What is left of the rows divides differently: problems of the splits would mislead.
        return {"train": rows}
    return divide(rows, data.split, problems)


def _read_unlabelled(recipe: Recipe, splits: Splits) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows of data.unlabelled, each text once, and warnings.

    What the model is chosen or judged on is left out: a model that was taught what its teacher says
    of a test row would agree with it there more than elsewhere. Raises DatasetError with all
    problems.
    """
    problems = Problems()
    wanted = replace(Wanted.of(recipe.data, recipe.task), is_labelled=False)
    rows = read_files(recipe.data.unlabelled, wanted, problems)
    problems.raise_if_any()
    kept: dict[str, Row] = {}
    for row in outside(rows, splits):
        kept.setdefault(normalised(content(row)), row)
    said = tuple(problems.warnings)
    if len(kept) < len(rows):
        said += (
            f"{UNLABELLED}: {len(rows) - len(kept)} of {len(rows)} texts are left out, they stand "
            "in a split or repeat another",
        )
    return tuple(kept.values()), said


def _check_ids(splits: Splits, problems: Problems) -> None:
    first: dict[str, str] = {}
    for row in _all(splits):
        if row.id in first:
            problems.add(f"{row.where}: id {row.id!r} is taken by {first[row.id]}; ids are unique")
        else:
            first[row.id] = row.where


def _check_sizes(splits: Splits, problems: Problems) -> None:
    for name, rows in splits.items():
        if not rows:
            problems.add(f"{name}: the split has no rows; add rows or raise its share")


def _check_classes(splits: Splits, problems: Problems) -> None:
    counts = Counter(row.label for row in _all(splits))
    if len(counts) == 1:
        first = next(iter(_all(splits)))
        problems.add(
            f"{first.where}: this row and all others have the label {first.label!r}; "
            "two classes are needed"
        )
    for row in _all(splits):
        if counts[row.label] == 1:
            problems.add(
                f"{row.where}: label {row.label!r} has this one row; a class needs at least 2"
            )
    _check_trained(splits, problems, {label for label in counts if counts[label] == 1})


def _check_several_labels(splits: Splits, problems: Problems) -> None:
    counts = Counter(label for row in _all(splits) for label in row.labels)
    if max(counts.values(), default=0) < 2:
        problems.add(
            f"{_first_place(splits)}: no label has two rows, here or in any other row; label more "
            "rows, or see whether data.label_separator is the one of the files"
        )
    _check_trained(splits, problems)


def _check_spans(splits: Splits, problems: Problems) -> None:
    if not any(row.spans for row in splits["train"]):
        problems.add(
            f"{_first_place(splits)}: neither this row nor any other of train has a span; mark at "
            "least one"
        )
    _check_trained(splits, problems)


def _check_nothing(splits: Splits, problems: Problems) -> None:
    """A text and the text that belongs to it need no labels."""


CHECKS: dict[str, Callable[[Splits, Problems], None]] = {
    "text-classification": _check_classes,
    "multi-label-classification": _check_several_labels,
    "token-classification": _check_spans,
    "text-embedding": _check_nothing,
}


def _check_trained(splits: Splits, problems: Problems, known: Iterable[str] = ()) -> None:
    """What no train row has cannot be learned; each label is named once, `known` ones never."""
    seen = {*known, *(label for row in splits["train"] for label in taught(row))}
    for name, row in ((name, row) for name, rows in splits.items() for row in rows):
        for label in taught(row):
            if label not in seen:
                seen.add(label)
                problems.add(
                    f"{row.where}: label {label!r} is in {name} but not in train; add train rows "
                    "with it, or leave the split to data.split with stratify"
                )


def _first_place(splits: Splits) -> str:
    return next((row.where for row in _all(splits)), "data.files")


def _all(splits: Splits) -> Iterable[Row]:
    return (row for rows in splits.values() for row in rows)


def _repeats(splits: Splits) -> list[str]:
    said = []
    for name, rows in splits.items():
        repeated = repeats(rows, content)
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


def _crossings(splits: Splits) -> list[str]:
    texts = {
        name: {normalised(content(row)): row.where for row in rows} for name, rows in splits.items()
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

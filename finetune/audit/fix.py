"""`edgeloop check RECIPE --fix`: cleaned copies of the rows, a log of every change, and the rows
that a person has to look at. The originals are never touched.

    cleaned/
        train.jsonl ...      one per split where the files are split, else rows.jsonl
        changes.jsonl        {"where", "id", "split", "what", "before", "after"}; a removed row has
                             no after
        for_review.jsonl     {"why", "kept", "detail", "row"}

Only what is mechanical and safe is done. Personal data that the audit looks for is in none of these
files, not even in "before".
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe, SplitFiles
from edgeloop.rows import LINE_SEPARATORS, Row
from edgeloop.rundir import sync_files, sync_folder
from finetune.audit.cleaning import Masker, strip, trim
from finetune.audit.columns import cells
from finetune.audit.context import Placed, Splits, own_splits
from finetune.audit.finding import Finding, Fix
from finetune.audit.personal import finders

FOLDER = "cleaned"
ROWS, CHANGES, REVIEW = "rows.jsonl", "changes.jsonl", "for_review.jsonl"
LEAVES_OUT: tuple[Fix, ...] = ("set-aside", "remove")


@dataclass(frozen=True)
class Fixed:
    """What was written: rows per file, changes per kind of finding, rows for review, and the lines
    that the recipe needs to use it."""

    folder: Path
    rows: dict[str, int]
    changes: dict[str, int]
    review: int
    recipe_lines: tuple[str, ...]


@dataclass
class Outcome:
    """What becomes of the rows."""

    kept: list[Placed] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    review: list[dict[str, Any]] = field(default_factory=list)


Wish = tuple[Finding, Mapping[str, Any]]


class Cleaner:
    """Applies the findings' fixes to one row after the other."""

    def __init__(self, recipe: Recipe, findings: Iterable[Finding]) -> None:
        self.recipe = recipe
        self.masker = Masker(finders(recipe.data.audit))
        self.edits: dict[Fix, Callable[[Row], Row]] = {
            "strip": strip,
            "trim": trim,
            "mask": self.masker,
        }
        self.wishes: dict[str, dict[Fix, list[Wish]]] = {}
        for finding in findings:
            if finding.fix is not None:
                for row, detail in zip(finding.rows, _details(finding), strict=True):
                    wishes = self.wishes.setdefault(row, {})
                    wishes.setdefault(finding.fix, []).append((finding, detail))
        self.outcome = Outcome()

    def clean(self, placed: Placed) -> None:
        """Note the row, what is done to it, and what a person must decide."""
        wishes = self.wishes.get(placed.row.id, {})
        leaving = next((wishes[fix][0][0] for fix in LEAVES_OUT if fix in wishes), None)
        for finding, detail in (*wishes.get("set-aside", ()), *wishes.get("review", ())):
            self._review(placed, finding, detail, kept=leaving is None)
        if leaving is not None:
            self._change(placed, leaving.kind, None)
            return
        row = placed.row
        for fix, edit in self.edits.items():
            if fix in wishes:
                before, row = row, edit(row)
                if row != before:
                    self._change(replace(placed, row=before), wishes[fix][0][0].kind, row)
        self.outcome.kept.append(replace(placed, row=row))

    def _change(self, placed: Placed, what: str, after: Row | None) -> None:
        self.outcome.changes.append(
            {
                "where": placed.row.where,
                "id": placed.row.id,
                "split": placed.split,
                "what": what,
                "before": self._shown(placed.row),
                "after": None if after is None else self._shown(after),
            }
        )

    def _review(
        self, placed: Placed, finding: Finding, detail: Mapping[str, Any], kept: bool
    ) -> None:
        self.outcome.review.append(
            {
                "why": finding.kind,
                "kept": kept,
                "detail": dict(detail),
                "row": {"where": placed.row.where, "split": placed.split} | self._shown(placed.row),
            }
        )

    def _shown(self, row: Row) -> dict[str, Any]:
        """The row's cells; personal data shows its shape alone, so that spans stay right."""
        hide = self.masker.shape
        return cells(
            replace(
                row,
                text=hide(row.text),
                text_pair=None if row.text_pair is None else hide(row.text_pair),
                negatives=tuple(hide(negative) for negative in row.negatives),
            ),
            self.recipe,
        )


def fix_rows(
    splits: Splits, recipe: Recipe, findings: Sequence[Finding], recipe_folder: Path
) -> Fixed:
    """Write `cleaned/` beside the recipe, whole or not at all.

    Raises DatasetError where that folder exists.
    """
    folder = recipe_folder / FOLDER
    refuse_folder(folder)
    cleaner = Cleaner(recipe, findings)
    for name, rows in own_splits(splits).items():
        for row in rows:
            cleaner.clean(Placed(name, row))
    files = _files(cleaner.outcome.kept, recipe)
    documents = {
        **{name: [cells(row, recipe) for row in rows] for name, rows in files.items()},
        CHANGES: cleaner.outcome.changes,
        REVIEW: cleaner.outcome.review,
    }
    _write(folder, documents)
    return Fixed(
        folder=folder,
        rows={name: len(rows) for name, rows in files.items()},
        changes=dict(Counter(str(change["what"]) for change in cleaner.outcome.changes)),
        review=len(cleaner.outcome.review),
        recipe_lines=_recipe_lines(list(files), recipe),
    )


def refuse_folder(folder: Path) -> None:
    """Raises DatasetError where the folder exists: what is in it may be somebody's work."""
    if os.path.lexists(folder):
        raise DatasetError(f"{folder} exists already; move it away or delete it, then fix again")


def _details(finding: Finding) -> Iterable[Mapping[str, Any]]:
    """What the finding says of each of its rows."""
    said: dict[str, Mapping[str, Any]] = {}
    for detail in finding.details:
        for row in [detail["row"]] if "row" in detail else detail.get("rows", []):
            said.setdefault(row, detail)
    return [said.get(row, {}) for row in finding.rows]


def _files(kept: Sequence[Placed], recipe: Recipe) -> dict[str, list[Row]]:
    """File name to rows: per split, or in the order of the recipe's files where they are whole."""
    files: dict[str, list[Row]] = {}
    if isinstance(recipe.data.files, SplitFiles):
        for placed in kept:
            files.setdefault(f"{placed.split}.jsonl", []).append(placed.row)
        return files
    order = {str(path): place for place, path in enumerate(recipe.data.files)}

    def source(row: Row) -> tuple[int, str, int]:
        file, _, line = row.where.rpartition(":")
        return order.get(file, len(order)), file, int(line) if line.isdecimal() else 0

    return {ROWS: sorted((placed.row for placed in kept), key=source)}


def _write(folder: Path, documents: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
    """Into a folder aside, flushed, then renamed."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for name, lines in documents.items():
            with (aside / name).open("w", encoding="utf-8", newline="\n") as stream:
                stream.writelines(_line(document) for document in lines)
        sync_files(aside)
        refuse_folder(folder)
        os.rename(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(folder.parent)


def _line(document: Mapping[str, Any]) -> str:
    line = json.dumps(document, ensure_ascii=False)
    for separator in LINE_SEPARATORS:
        line = line.replace(separator, f"\\u{ord(separator):04x}")
    return line + "\n"


def _recipe_lines(names: Sequence[str], recipe: Recipe) -> tuple[str, ...]:
    """The keys below `data` that change."""
    encoding = ["  encoding: null"] * (recipe.data.encoding is not None)
    if names == [ROWS]:
        return ("data:", f"  files: [{FOLDER}/{ROWS}]", *encoding)
    files = [f"    {Path(name).stem}: [{FOLDER}/{name}]" for name in names]
    return ("data:", "  files:", *files, *encoding)

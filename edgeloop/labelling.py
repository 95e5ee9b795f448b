"""Labels from a person's file into the ledger, as a uniform random sample.

A uniform sample is what an unbiased estimate of accuracy needs. Command: `edgeloop label`.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError, RecipeError
from edgeloop.ledger import Ledger
from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from edgeloop.tasks import TASKS
from finetune.data import Problems, Wanted, log_warnings, read_files
from finetune.labelled import to_labelled


def check_labelled_by_word(recipe: Recipe) -> None:
    """Raises RecipeError where a row's truth is not one text and one word: the ledger keeps labels
    as such, and the retraining is made from them."""
    if TASKS[recipe.task].read_label("") is None:
        raise RecipeError(
            f"task {recipe.task}: labels that are collected one by one, and retraining from them, "
            "are for classification; add the new rows to data.files and call `edgeloop run`"
        )
    if recipe.data.columns.text_pair is not None:
        raise RecipeError(
            f"data.columns.text_pair is {recipe.data.columns.text_pair!r}: the ledger keeps single "
            "texts, not pairs; add the new rows to data.files and call `edgeloop run`"
        )


def store_sample(
    ledger: Ledger, recipe: Recipe, answers: Path, count: int, seed: int
) -> dict[str, Any]:
    """Draw `count` rows whose ids the ledger does not know, and store their labels.

    Raises RecipeError where the recipe's rows are not single texts with labels, DatasetError where
    the file is not a file of labelled rows, where an id comes twice, or where the ledger knows it
    with another text.
    """
    check_labelled_by_word(recipe)
    problems = Problems()
    rows = read_files([answers], Wanted.of(recipe.data, recipe.task), problems)
    agreed, disagreeing = ledger.labels(recipe.name)
    _check_ids(rows, {row.id: row.text for row in agreed}, problems)
    problems.raise_if_any()
    log_warnings(problems)
    known = {row.id for row in agreed} | set(disagreeing)
    unknown = [to_labelled(row) for row in rows if row.id not in known]
    if not unknown:
        raise DatasetError(f"{answers}: all {len(rows)} rows are labelled already; nothing to add")
    drawn = random.Random(seed).sample(unknown, min(count, len(unknown)))
    added = ledger.add_labels(recipe.name, drawn, source=str(answers))
    return {
        "model": recipe.name,
        "drawn": len(drawn),
        "added": added,
        "known": len(known) + added,
        "skipped": len(rows) - len(unknown),
        "ids": [row.id for row in drawn],
    }


def _check_ids(rows: Sequence[Row], known_texts: dict[str, str], problems: Problems) -> None:
    """One id is one text, in the file and in the ledger."""
    first: dict[str, str] = {}
    for row in rows:
        if row.id in first:
            problems.add(f"{row.where}: id {row.id!r} is taken by {first[row.id]}; ids are unique")
        elif known_texts.get(row.id, row.text) != row.text:
            problems.add(
                f"{row.where}: the ledger knows id {row.id!r} with another text; give this row an "
                "id of its own"
            )
        first.setdefault(row.id, row.where)

"""Labels from a person's file into the ledger, as a uniform random sample.

A uniform sample is what an unbiased estimate of accuracy needs. Command: `edgeloop label`.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError
from edgeloop.ledger import Ledger
from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.data import Problems, Wanted, log_warnings, read_files
from finetune.labelled import check_carried, to_labelled


def store_sample(
    ledger: Ledger, recipe: Recipe, answers: Path, count: int, seed: int
) -> dict[str, Any]:
    """Draw `count` rows whose ids the ledger does not know, and store their labels.

    Raises DatasetError where the file is not a file of labelled rows, where an id comes twice,
    where the ledger knows it with another text, or where the task's rows are none for the ledger.
    """
    check_carried(recipe.task, recipe.data.columns.text_pair is not None)
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

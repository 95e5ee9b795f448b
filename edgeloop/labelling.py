"""Labels from a person's file into the ledger, as a uniform random sample.

A uniform sample is what an unbiased estimate of accuracy needs. Command: `edgeloop label`.
"""

import random
from pathlib import Path
from typing import Any

from edgeloop.errors import DatasetError
from edgeloop.ledger import Ledger
from edgeloop.recipe import Recipe
from finetune.data import read_labelled


def store_sample(
    ledger: Ledger, recipe: Recipe, answers: Path, count: int, seed: int
) -> dict[str, Any]:
    """Draw `count` rows whose ids the ledger does not know, and store their labels.

    Raises DatasetError where the file is not a file of labelled rows.
    """
    rows = read_labelled(answers, recipe.data.columns)
    agreed, disagreeing = ledger.labels(recipe.name)
    known = {row.id for row in agreed} | set(disagreeing)
    unknown = [row for row in rows if row.id not in known]
    if not unknown:
        raise DatasetError(f"{answers}: all {len(rows)} rows are labelled already; nothing to add")
    drawn = random.Random(seed).sample(unknown, min(count, len(unknown)))
    added = ledger.add_labels(recipe.name, drawn, source=str(answers))
    return {
        "model": recipe.name,
        "drawn": len(drawn),
        "added": added,
        "known": len(known) + added,
        "ids": [row.id for row in drawn],
    }

"""A row as the cells of the recipe's columns, which the readers make the same row of again."""

from typing import Any

from edgeloop.recipe import Recipe
from edgeloop.rows import Row


def cells(row: Row, recipe: Recipe) -> dict[str, Any]:
    """Column name to value; tokens and tags are written as text and spans."""
    columns = recipe.data.columns
    found: dict[str, Any] = {**dict(row.slices), columns.id: row.id, columns.text: row.text}
    key = recipe.data.split.group or recipe.data.split.time
    if key is not None:
        found[key] = row.key
    if recipe.task == "text-embedding":
        found[columns.positive] = row.text_pair
        if row.negatives:
            found[columns.negative] = list(row.negatives)
        return found
    if columns.text_pair is not None:
        found[columns.text_pair] = row.text_pair
    if recipe.task == "token-classification":
        found[columns.spans] = [
            {"start": span.start, "end": span.end, "label": span.label} for span in row.spans
        ]
    else:
        many = recipe.task == "multi-label-classification"
        found[columns.label] = list(row.labels) if many else row.label
    return found

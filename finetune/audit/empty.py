"""Rows without a text, and texts with white space around them."""

from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.context import Context, Splits, texts_of
from finetune.audit.finding import Finding, count


def check_empty(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Rows of which a text is empty or white space alone: an error."""
    found = [p for p in context.placed if not all(text.strip() for text in texts_of(p.row))]
    if not found:
        return []
    return [
        Finding(
            kind="empty",
            severity="error",
            message=f"{count(len(found), 'row')} with an empty text",
            rows=tuple(p.row.id for p in found),
            suggestion="fill the texts in or remove the rows",
            details=tuple(
                {
                    "row": p.row.id,
                    "split": p.split,
                    "where": p.row.where,
                    "problem": "a text is empty; fill it in or remove the row",
                }
                for p in found
            ),
        )
    ]


def check_white_space(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Rows of which a text begins or ends with white space."""
    found = [p.row.id for p in context.placed if has_outer_space(p.row)]
    if not found:
        return []
    return [
        Finding(
            kind="outer-white-space",
            severity="note",
            message=f"{count(len(found), 'row')} with white space around a text",
            rows=tuple(found),
            suggestion="`edgeloop check RECIPE --fix` takes it off",
            fix="strip",
        )
    ]


def has_outer_space(row: Row) -> bool:
    """Whether a text of the row is not what strip() leaves of it, and is not empty."""
    return any(text != text.strip() and text.strip() for text in texts_of(row))

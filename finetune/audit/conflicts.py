"""The same text with different answers."""

from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, count
from finetune.dataset import normalised


def check_conflicts(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Texts (case and white space aside) whose rows disagree, in whatever splits they are. Not for
    text-embedding, where one anchor may have many partners."""
    if recipe.task == "text-embedding":
        return []
    placed = context.placed
    groups = [
        positions
        for positions in context.same.values()
        if len({answer(placed[position].row) for position in positions}) > 1
    ]
    if not groups:
        return []
    rows = [placed[position].row for positions in groups for position in positions]
    return [
        Finding(
            kind="conflicting-labels",
            severity="warning",
            message=f"{count(len(groups), 'text')} with different answers in {len(rows)} rows",
            rows=tuple(row.id for row in rows),
            suggestion="decide on one answer per text; `edgeloop check RECIPE --fix` sets these "
            "rows aside for review",
            details=tuple(
                {
                    "rows": [placed[position].row.id for position in positions],
                    "answers": [_in_words(placed[position].row) for position in positions],
                }
                for positions in groups
            ),
            fix="set-aside",
        )
    ]


def answer(row: Row) -> tuple[object, ...]:
    """The labels and spans, so that case and white space of the text make no difference."""
    spans = sorted((s.start, normalised(row.text[s.start : s.end]), s.label) for s in row.spans)
    return (row.label, tuple((text, label) for _, text, label in spans))


def _in_words(row: Row) -> str:
    """The labels; for spans where they are, not what they say, which may be a person's name."""
    if not row.spans:
        return row.label
    return ", ".join(f"{span.label} {span.start}-{span.end}" for span in sorted(row.spans))

"""The pairs and triplets of text-embedding that teach nothing, or the opposite."""

from collections import defaultdict

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, count
from finetune.dataset import normalised


def check_pairs(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Anchors that equal their positive, and negatives that are the anchor or, in any row, a
    positive of the same anchor. Case and white space aside."""
    if recipe.task != "text-embedding":
        return []
    rows = [placed.row for placed in context.placed]
    partners: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        partners[normalised(row.text)].add(normalised(row.text_pair or ""))
    same = [r.id for r in rows if normalised(r.text) == normalised(r.text_pair or "")]
    wrong = [
        row.id
        for row in rows
        if {normalised(negative) for negative in row.negatives}
        & (partners[normalised(row.text)] | {normalised(row.text)})
    ]
    found = []
    if same:
        found.append(
            Finding(
                kind="anchor-is-positive",
                severity="warning",
                message=f"{count(len(same), 'row')} whose anchor is its own positive",
                rows=tuple(same),
                suggestion="remove them: there is nothing to learn from them",
            )
        )
    if wrong:
        found.append(
            Finding(
                kind="negative-is-positive",
                severity="warning",
                message=f"{count(len(wrong), 'row')} with a negative that is the anchor itself or "
                "its positive here or in another row",
                rows=tuple(wrong),
                suggestion="remove these negatives: they pull the right pairs apart",
            )
        )
    return found

"""Rows that repeat another row, and rows that nearly do."""

from collections import Counter

from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.context import Context, Placed, Splits
from finetune.audit.finding import Finding, count


def check_duplicates(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Rows whose texts and answer an earlier row of the same split has, outer white space aside.
    What crosses splits is leakage."""
    first: dict[tuple[object, ...], str] = {}
    found: list[tuple[Placed, str]] = []
    for placed in context.placed:
        key = (placed.split, *_content(placed.row))
        if key in first:
            found.append((placed, first[key]))
        else:
            first[key] = placed.row.id
    if not found:
        return []
    per_split = Counter(placed.split for placed, _ in found)
    shares = ", ".join(f"{number} in {split}" for split, number in per_split.items())
    return [
        Finding(
            kind="duplicates",
            severity="warning",
            message=f"{count(len(found), 'row')} repeat an earlier row, label and all ({shares})",
            rows=tuple(placed.row.id for placed, _ in found),
            suggestion="remove them, or keep them on purpose: each counts as often as it is there; "
            "`edgeloop check RECIPE --fix` keeps the first",
            details=tuple({"row": p.row.id, "split": p.split, "same_as": o} for p, o in found),
            fix="remove",
        )
    ]


def check_near_duplicates(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Clusters of texts that share nearly all of their 5-grams, or differ in case or white space
    alone, within and across splits."""
    clusters = _clusters(context)
    if not clusters:
        return []
    placed = context.placed
    ratio = recipe.data.audit.near_duplicate_ratio
    return [
        Finding(
            kind="near-duplicates",
            severity="note",
            message=f"{count(len(clusters), 'cluster')} of near-duplicate texts, "
            f"{sum(map(len, clusters))} rows (5-grams shared: {ratio:g} or more)",
            rows=tuple(placed[position].row.id for cluster in clusters for position in cluster),
            suggestion="look at the largest clusters: they count double in training and flatter "
            "a test; data.audit.near_duplicate_ratio says what is near",
            details=tuple(
                {
                    "rows": [placed[position].row.id for position in cluster],
                    "splits": sorted({placed[position].split for position in cluster}),
                    "labels": sorted({placed[position].row.label for position in cluster}),
                }
                for cluster in sorted(clusters, key=len, reverse=True)
            ),
        )
    ]


def _clusters(context: Context) -> list[list[int]]:
    """Positions of rows; rows that are the same to the letter are left to `duplicates`."""
    members = list(context.same.values())
    near = {text: cluster for cluster in context.near.clusters for text in cluster}
    found = [
        [position for text in cluster for position in members[text]]
        for cluster in context.near.clusters
    ]
    for text, positions in enumerate(members):
        exact = {context.placed[position].row.input for position in positions}
        if text not in near and len(exact) > 1:
            found.append(positions)
    return found


def _content(row: Row) -> tuple[object, ...]:
    pair = None if row.text_pair is None else row.text_pair.strip()
    offset = len(row.text) - len(row.text.lstrip())
    spans = tuple(sorted((s.start - offset, s.end - offset, s.label) for s in row.spans))
    return (row.text.strip(), pair, row.label, spans, tuple(n.strip() for n in row.negatives))

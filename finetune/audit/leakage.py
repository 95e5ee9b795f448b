"""Texts of validation, reference or test that are in train too: the figures measured on them say
how well the model remembers."""

from collections.abc import Iterable

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, Fix, count

TRAIN = "train"
Pair = tuple[int, int]


def check_leakage(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Train rows with the same text (case and white space aside) or a near text as a row that is
    held out, and texts that two held-out splits share."""
    exact = list(_exact_pairs(context))
    near = [pair for pair in _near_pairs(context)]
    found = [
        _leak(
            context,
            "leakage",
            [(t, h) for t, h in exact if _split(context, t) == TRAIN],
            "the same text as",
            "remove",
        ),
        _leak(context, "near-leakage", near, "nearly the same text as", "review"),
        _shared(context, [(a, b) for a, b in exact if _split(context, a) != TRAIN]),
    ]
    return [finding for finding in found if finding is not None]


def _split(context: Context, position: int) -> str:
    return context.placed[position].split


def _exact_pairs(context: Context) -> Iterable[Pair]:
    """(train row, first held-out row) of the same text, and (held-out row, first row of another
    held-out split)."""
    for positions in context.same.values():
        held = [p for p in positions if _split(context, p) != TRAIN]
        if not held:
            continue
        yield from ((p, held[0]) for p in positions if _split(context, p) == TRAIN)
        yield from ((p, held[0]) for p in held if _split(context, p) != _split(context, held[0]))


def _near_pairs(context: Context) -> list[Pair]:
    """(train row, held-out row) with near texts; each train row once, exact leaks left out."""
    members = list(context.same.values())
    found: dict[int, int] = {}
    for left, right, _ in context.near.pairs:
        for ours, theirs in ((left, right), (right, left)):
            train = [p for p in members[ours] if _split(context, p) == TRAIN]
            held = [p for p in members[theirs] if _split(context, p) != TRAIN]
            if held and len(train) == len(members[ours]):
                for position in train:
                    found.setdefault(position, held[0])
    return sorted(found.items())


def _leak(
    context: Context, kind: str, pairs: list[Pair], relation: str, fix: Fix
) -> Finding | None:
    if not pairs:
        return None
    splits = sorted({_split(context, held) for _, held in pairs})
    removed = "`edgeloop check RECIPE --fix` removes the train rows"
    listed = "`edgeloop check RECIPE --fix` lists the train rows for review"
    return Finding(
        kind=kind,
        severity="warning",
        message=f"{count(len(pairs), 'train row')} with {relation} a row of {', '.join(splits)}",
        rows=tuple(context.placed[train].row.id for train, _ in pairs),
        suggestion=f"take them out of train; {removed if fix == 'remove' else listed}",
        details=_details(context, pairs),
        fix=fix,
    )


def _shared(context: Context, pairs: list[Pair]) -> Finding | None:
    if not pairs:
        return None
    return Finding(
        kind="shared-texts",
        severity="note",
        message=f"{count(len(pairs), 'held-out row')} with the same text as one of another "
        "held-out split",
        rows=tuple(context.placed[row].row.id for row, _ in pairs),
        suggestion="keep each text in one of validation, reference and test",
        details=_details(context, pairs),
    )


def _details(context: Context, pairs: list[Pair]) -> tuple[dict[str, str], ...]:
    placed = context.placed
    return tuple(
        {
            "row": placed[row].row.id,
            "split": placed[row].split,
            "same_as": placed[other].row.id,
            "in": placed[other].split,
        }
        for row, other in pairs
    )

"""Personal data in the rows. A finding shows kind, row and the value's shape, never the value."""

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits, texts_of
from finetune.audit.finding import Finding, count
from finetune.audit.personal import find_personal, finders, masked

NOUNS = {
    "email": "an e-mail address",
    "iban": "an account number (IBAN)",
    "card": "a card number",
    "phone": "a telephone number",
    "name": "a name of data.audit.names",
}


def check_pii(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """One finding per kind of data.audit.pii, and one for data.audit.names."""
    chosen = finders(recipe.data.audit)
    details: dict[str, list[dict[str, str]]] = {kind: [] for kind, _ in chosen}
    for placed in context.placed:
        for text in texts_of(placed.row):
            for item in find_personal(text, chosen):
                shape = masked(text[item.start : item.end])
                details[item.kind].append(
                    {"row": placed.row.id, "split": placed.split, "masked": shape}
                )
    return [_finding(kind, found) for kind, found in details.items() if found]


def _finding(kind: str, details: list[dict[str, str]]) -> Finding:
    rows = tuple(dict.fromkeys(detail["row"] for detail in details))
    return Finding(
        kind=f"pii-{kind}",
        severity="warning",
        message=f"{count(len(rows), 'row')} with {NOUNS[kind]}",
        rows=rows,
        suggestion=f"`edgeloop check RECIPE --fix` writes <{kind}> in its place; a model, its "
        "bundle and its golden rows may give it away",
        details=tuple(details),
        fix="mask",
    )

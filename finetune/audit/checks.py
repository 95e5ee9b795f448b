"""The audit of labelled rows before anything trains: every check, and the entries.

A new check is one file with one function and one line in CHECKS.
"""

from collections.abc import Callable

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe
from finetune.audit.classes import check_classes
from finetune.audit.conflicts import check_conflicts
from finetune.audit.context import Context, Splits
from finetune.audit.duplicates import check_duplicates, check_near_duplicates
from finetune.audit.empty import check_empty, check_white_space
from finetune.audit.finding import SEVERITIES, Finding
from finetune.audit.label_errors import check_label_errors
from finetune.audit.languages import check_languages
from finetune.audit.leakage import check_leakage
from finetune.audit.lengths import check_lengths
from finetune.audit.pairs import check_pairs
from finetune.audit.pii import check_pii
from finetune.audit.scripts import check_scripts
from finetune.audit.spans import check_span_borders, check_span_labels
from finetune.audit.templates import check_templates

Check = Callable[[Splits, Recipe, Context], list[Finding]]

CHECKS: dict[str, Check] = {
    "empty": check_empty,
    "length": check_lengths,
    "leakage": check_leakage,
    "conflicts": check_conflicts,
    "label-errors": check_label_errors,
    "duplicates": check_duplicates,
    "near-duplicates": check_near_duplicates,
    "classes": check_classes,
    "pii": check_pii,
    "span-borders": check_span_borders,
    "span-labels": check_span_labels,
    "pairs": check_pairs,
    "templates": check_templates,
    "languages": check_languages,
    "scripts": check_scripts,
    "white-space": check_white_space,
}
# Those that can find an error; a run makes them again, so they are quick.
REFUSING = ("empty", "length")
MAX_LINES = 20


def audit_rows(splits: Splits, recipe: Recipe) -> tuple[Finding, ...]:
    """Everything that the checks find, worst first. Reads only; the texts are in no finding."""
    context = Context(splits, recipe)
    found = [f for check in CHECKS.values() for f in check(context.splits, recipe, context)]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def refuse_errors(splits: Splits, recipe: Recipe) -> None:
    """The quick part of the audit, before a run.

    Raises DatasetError with every row that has an error, in at most 20 lines.
    """
    context = Context(splits, recipe)
    found = [f for name in REFUSING for f in CHECKS[name](context.splits, recipe, context)]
    lines = [
        f"{detail['where'] or detail['split']}: id {detail['row']!r}: {detail['problem']}"
        for finding in found
        if finding.severity == "error"
        for detail in finding.details
    ]
    if lines:
        shown = lines if len(lines) <= MAX_LINES else lines[: MAX_LINES - 1]
        more = len(lines) - len(shown)
        rest = [f"and {more} more; `edgeloop check RECIPE` lists all"] * (more > 0)
        raise DatasetError("\n".join([*shown, *rest]))

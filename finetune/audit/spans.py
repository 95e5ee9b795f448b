"""The spans of token-classification: borders in odd places, and surfaces tagged in several ways."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding, count
from finetune.audit.letters import UNSPACED, script_of
from finetune.dataset import normalised

# Never the first or last character of a name; a full stop may be ("U.S.").
OUTER = ",;:"
# A surface is told where its rarer tags are in at least this many rows and this share of them.
MIN_ROWS = 2
MIN_SHARE = 0.05


def check_span_borders(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Spans with outer white space or commas (which --fix trims), and those that begin or end
    inside a word (which it cannot decide)."""
    loose, cut = [], []
    for row in (placed.row for placed in context.placed):
        for span in row.spans:
            if trimmed(row.text, span) != span:
                loose.append({"row": row.id, **asdict(span)})
            elif cuts_word(row.text, span):
                cut.append({"row": row.id, **asdict(span)})
    found = [
        Finding(
            kind="loose-spans",
            severity="warning",
            message=f"{count(len(loose), 'span')} with white space, comma, colon or semicolon at a "
            "border",
            rows=_ids(loose),
            suggestion="`edgeloop check RECIPE --fix` trims them",
            details=tuple(loose),
            fix="trim",
        ),
        Finding(
            kind="cut-words",
            severity="warning",
            message=f"{count(len(cut), 'span')} that begin or end inside a word",
            rows=_ids(cut),
            suggestion="see whether the offsets count characters (not bytes or UTF-16 units) from "
            "0, the end left out",
            details=tuple(cut),
        ),
    ]
    return [finding for finding in found if finding.rows]


def trimmed(text: str, span: Span) -> Span | None:
    """The span without white space and OUTER at its borders; None where nothing is left."""
    start, end = span.start, span.end
    while start < end and _is_outer(text[start]):
        start += 1
    while end > start and _is_outer(text[end - 1]):
        end -= 1
    return Span(start, end, span.label) if start < end else None


def cuts_word(text: str, span: Span) -> bool:
    """Whether a border lies between two letters or two digits of a script that spaces words."""
    return any(
        0 < place < len(text) and _joined(text[place - 1], text[place])
        for place in (span.start, span.end)
    )


def check_span_labels(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Surfaces (case and white space aside) that carry different tags in many rows."""
    tags: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for placed in context.placed:
        for surface, label in _surfaces(placed.row):
            tags[surface][label].append(placed.row.id)
    details = [_disagreement(labels) for labels in tags.values()]
    told = sorted(filter(None, details), key=lambda detail: -len(detail["rows"]))
    if not told:
        return []
    rows = tuple(dict.fromkeys(row for detail in told for row in detail["rows"]))
    return [
        Finding(
            kind="span-labels",
            severity="note",
            message=f"{count(len(told), 'surface')} tagged in different ways; {len(rows)} rows "
            "have one of its rarer tags",
            rows=rows,
            suggestion="see whether the context tells them apart; if not, agree on one tag",
            details=tuple(told),
        )
    ]


def _surfaces(row: Row) -> set[tuple[str, str]]:
    return {(normalised(row.text[s.start : s.end]), s.label) for s in row.spans}


def _disagreement(labels: dict[str, list[str]]) -> dict[str, list[str] | dict[str, int]]:
    """The tags with their rows, most first, and the rows of all but the first; {} for one tag or
    for too few rows."""
    counts = Counter({label: len(rows) for label, rows in sorted(labels.items())})
    main = max(counts, key=lambda label: counts[label])
    rarer = [row for label, rows in labels.items() if label != main for row in rows]
    if len(rarer) < max(MIN_ROWS, MIN_SHARE * counts.total()):
        return {}
    return {"tags": dict(counts.most_common()), "rows": rarer}


def _is_outer(character: str) -> bool:
    return character.isspace() or character in OUTER


def _joined(left: str, right: str) -> bool:
    if left.isdigit() and right.isdigit():
        return True
    scripts = {script_of(left), script_of(right)}
    return left.isalpha() and right.isalpha() and not scripts & UNSPACED


def _ids(details: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(detail["row"]) for detail in details))

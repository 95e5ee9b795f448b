"""The findings of `edgeloop check` as text: worst first, what to do below each."""

from collections.abc import Mapping, Sequence
from typing import Any

SHOWN_ROWS = 8
SHOWN_DETAILS = 3
# Label errors are ranked, and looking at the first of them is the point.
SHOWN_LABEL_ERRORS = 20
# Told in the message or of use to programs alone.
LEFT_OUT = ("problem", "where")


def findings(found: Sequence[Mapping[str, Any]]) -> str:
    """All findings; one line where there are none."""
    if not found:
        return "findings   none"
    return "\n".join(_finding(finding) for finding in found)


def fixed(document: Mapping[str, Any]) -> str:
    """What --fix wrote, and the recipe lines that use it."""
    changes = ", ".join(f"{number} {kind}" for kind, number in document["changes"].items())
    lines = [
        f"cleaned    {document['folder']}",
        *(f"rows       {number} in {name}" for name, number in document["rows"].items()),
        f"changed    {changes or 'nothing'} (changes.jsonl has every one)",
        f"review     {document['review']} entries in for_review.jsonl",
        "recipe     to use the cleaned rows, write",
        *(f"    {line}" for line in document["recipe_lines"]),
        "           and check again: masked texts may be the same now",
    ]
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> str:
    lines = [f"{finding['severity']:<10} {finding['kind']}: {finding['message']}"]
    if finding["rows"]:
        lines.append(f"           rows: {_some(finding['rows'], SHOWN_ROWS)}")
    most = SHOWN_LABEL_ERRORS if finding["kind"] == "label-errors" else SHOWN_DETAILS
    lines += [f"           - {_detail(detail)}" for detail in finding["details"][:most]]
    if finding["suggestion"]:
        lines.append(f"           do: {finding['suggestion']}")
    return "\n".join(lines)


def _detail(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_value(v)}" for k, v in detail.items() if k not in LEFT_OUT)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _some([f"{k} {v}" for k, v in value.items()], SHOWN_ROWS)
    if isinstance(value, list | tuple):
        return f"[{_some([str(item) for item in value], SHOWN_ROWS)}]"
    return str(value)


def _some(items: Sequence[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"

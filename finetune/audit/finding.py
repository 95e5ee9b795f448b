"""What a check found. A finding names rows by their ids and never holds a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# What `edgeloop check --fix` does with the rows of a finding:
#   remove     left out of the cleaned rows
#   set-aside  left out of the cleaned rows, written to for_review.jsonl
#   review     kept, and written to for_review.jsonl as well
#   strip      outer white space taken off
#   trim       span borders moved inwards
#   mask       personal data replaced by <email>, <phone>, ...
Fix = Literal["remove", "set-aside", "review", "strip", "trim", "mask"]

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing to know about the rows. `rows`: the ids of all of them, in order. `details`: what
    there is to say per row, cluster or class, as plain values."""

    kind: str
    severity: Severity
    message: str
    rows: tuple[str, ...] = ()
    suggestion: str = ""
    details: tuple[Mapping[str, Any], ...] = ()
    fix: Fix | None = None


def count(number: int, noun: str, plural: str | None = None) -> str:
    """The number and the noun: "1 row", "3 rows"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"

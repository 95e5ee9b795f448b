"""Rows, recipes and findings for the tests of the audit."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeloop.recipe import Recipe
from edgeloop.rows import Row
from finetune.audit.checks import CHECKS
from finetune.audit.context import Context
from finetune.audit.finding import Finding

NO_BASE = "/nowhere/base"


def recipe(
    task: str = "text-classification",
    base: str = NO_BASE,
    audit: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    max_tokens: int = 128,
) -> Recipe:
    """A recipe with this task and these keys of data."""
    return Recipe.model_validate_json(
        json.dumps(
            {
                "name": "audited",
                "task": task,
                "base": base,
                "data": {"files": ["rows.jsonl"], "audit": dict(audit or {}), **(data or {})},
                "serve": {"max_tokens": max_tokens},
            }
        )
    )


def rows(
    texts: Sequence[str], label: str | Sequence[str] = "a", prefix: str = "r", **fields: Any
) -> list[Row]:
    """One row per text, ids r0, r1, ...; one label for all or one each."""
    labels = [label] * len(texts) if isinstance(label, str) else label
    return [
        Row(id=f"{prefix}{i}", text=text, labels=(name,), where=f"rows.jsonl:{i + 1}", **fields)
        for i, (text, name) in enumerate(zip(texts, labels, strict=True))
    ]


def findings(
    check: str, splits: Mapping[str, Sequence[Row]], chosen: Recipe | None = None
) -> dict[str, Finding]:
    """What one check finds, by kind."""
    chosen = chosen or recipe()
    context = Context(splits, chosen)
    return {f.kind: f for f in CHECKS[check](context.splits, chosen, context)}

"""Rows in another script than most, and words that mix scripts."""

import re
from collections import Counter

from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits, texts_of
from finetune.audit.finding import Finding, count
from finetune.audit.letters import LOOKALIKE, script_of

WORD = re.compile(r"[^\W\d_]+")


def check_scripts(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """The script of a row is that of most of its letters."""
    rows = [(placed, " ".join(texts_of(placed.row))) for placed in context.placed]
    scripts = [main_script(text) for _, text in rows]
    mixed = [(placed.row.id, len(words)) for placed, text in rows if (words := mixed_words(text))]
    found = [_mix(context, scripts), _homoglyphs(mixed)]
    return [finding for finding in found if finding is not None]


def main_script(text: str) -> str:
    """The script of most letters, of two with as many the first by name; "" without letters."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else ""
    counts = Counter(script for script in map(script_of, text) if script)
    return min(counts, key=lambda script: (-counts[script], script), default="")


def mixed_words(text: str) -> list[str]:
    """Words with letters of several scripts that look alike ("pаypal" with a Cyrillic a)."""
    if text.isascii():
        return []
    return [
        word
        for word in WORD.findall(text)
        if not word.isascii() and len({script_of(c) for c in word} & LOOKALIKE) > 1
    ]


def _mix(context: Context, scripts: list[str]) -> Finding | None:
    counts = Counter(script for script in scripts if script)
    if len(counts) < 2:
        return None
    main = min(counts, key=lambda script: (-counts[script], script))
    others = [
        (placed.row.id, script)
        for placed, script in zip(context.placed, scripts, strict=True)
        if script not in ("", main)
    ]
    shares = ", ".join(
        f"{s.lower()} {n / sum(counts.values()):.1%}" for s, n in counts.most_common()
    )
    return Finding(
        kind="script-mix",
        severity="note",
        message=f"rows in {len(counts)} scripts ({shares}); {len(others)} are not {main.lower()}",
        rows=tuple(row for row, _ in others),
        suggestion="see that the base was trained on these scripts and that each has test rows",
        details=tuple({"row": row, "script": script.lower()} for row, script in others),
    )


def _homoglyphs(mixed: list[tuple[str, int]]) -> Finding | None:
    if not mixed:
        return None
    return Finding(
        kind="mixed-script-words",
        severity="warning",
        message=f"{count(len(mixed), 'row')} with words that mix scripts, such as Latin with "
        "Cyrillic letters that look the same",
        rows=tuple(row for row, _ in mixed),
        suggestion="see where they come from (copying, scanning, or someone hiding a word); a "
        "tokenizer does not know such words",
        details=tuple({"row": row, "words": words} for row, words in mixed),
    )

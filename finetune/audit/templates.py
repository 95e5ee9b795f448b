"""Classes of which many texts are one sentence with another number, address or word in it.

Numbers, e-mail addresses and words that no other text has are masked; then each word in turn is
left out, so that texts meet that differ in one slot. Time grows with the words of all texts.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from edgeloop.personal import EMAIL
from edgeloop.recipe import Recipe
from finetune.audit.context import Context, Splits
from finetune.audit.finding import Finding

TOKEN = re.compile(r"<\w+>|\w+")
NUMBER = re.compile(r"\d+")
RARE = "<rare>"
# A template has this many words of its own, and this many texts.
MIN_FIXED_WORDS = 3
MIN_TEXTS = 5
# Longer texts meet where the masks alone make them the same.
MAX_SLOT_WORDS = 24


def check_templates(splits: Splits, recipe: Recipe, context: Context) -> list[Finding]:
    """Clusters of different texts that cover more than data.audit.template_ratio of a class; all
    rows are one class where the task has none."""
    texts = list(context.same)
    words = masked_words(texts)
    classes: dict[str, list[int]] = defaultdict(list)
    for number, positions in enumerate(context.same.values()):
        for label in sorted({context.placed[position].row.label for position in positions}):
            classes[label].append(number)
    details = []
    for label, members in sorted(classes.items()):
        least = max(MIN_TEXTS, int(recipe.data.audit.template_ratio * len(members)) + 1)
        for template, found in clusters_of([words[number] for number in members], least):
            rows = _rows(context, texts, [members[i] for i in found], label)
            details.append(
                {
                    "class": label,
                    "ratio": round(len(found) / len(members), 4),
                    "words": template,
                    "rows": rows,
                }
            )
    return [_finding(details, recipe)] if details else []


def masked_words(texts: Iterable[str]) -> list[list[str]]:
    """The words of each text; numbers, e-mail addresses and words of one text alone are masks."""
    masked = [TOKEN.findall(NUMBER.sub("<number>", EMAIL.sub("<email>", text))) for text in texts]
    texts_with = Counter(word for words in masked for word in set(words))
    return [[RARE if texts_with[word] == 1 else word for word in words] for words in masked]


def clusters_of(texts: Sequence[list[str]], least: int) -> list[tuple[int, list[int]]]:
    """(words of the template, positions of its texts) for at least `least` texts, the largest
    first; a text is in one of them."""
    sizes = Counter(key for words in texts for key in _keys(words))
    large = {key for key, size in sizes.items() if size >= least}
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position, words in enumerate(texts):
        for key in large.intersection(_keys(words)):
            members[key].append(position)
    taken: set[int] = set()
    found = []
    for positions in sorted(members.values(), key=lambda rows: (-len(rows), rows)):
        left = [position for position in positions if position not in taken]
        if len(left) >= least:
            taken.update(left)
            found.append((len(texts[left[0]]), left))
    return found


def _keys(words: list[str]) -> set[Hashable]:
    """What a text has in common with others of its template: itself, and itself without one word.
    Sums of hashes per place, so that each takes one step."""
    fixed = [not word.startswith("<") for word in words]
    places = [hash((place, word)) for place, word in enumerate(words)]
    whole = sum(places)
    keys: set[Hashable] = set()
    if sum(fixed) >= MIN_FIXED_WORDS:
        keys.add((len(words), -1, whole))
    if len(words) <= MAX_SLOT_WORDS:
        for place, value in enumerate(places):
            if sum(fixed) - fixed[place] >= MIN_FIXED_WORDS:
                keys.add((len(words), place, whole - value))
    return keys


def _rows(context: Context, texts: list[str], chosen: list[int], label: str) -> list[str]:
    positions = sorted(p for number in chosen for p in context.same[texts[number]])
    rows = [context.placed[position].row for position in positions]
    return [row.id for row in rows if row.label == label]


def _finding(details: list[dict[str, Any]], recipe: Recipe) -> Finding:
    rows = tuple(row for detail in details for row in detail["rows"])
    classes = list(dict.fromkeys(detail["class"] for detail in details))
    shown = ", ".join(repr(name) for name in classes[:5] if name) or "the rows"
    more = f" and {len(classes) - 5} more" * (len(classes) > 5)
    return Finding(
        kind="templates",
        severity="note",
        message=f"{len(rows)} rows only repeat a template, more than "
        f"{recipe.data.audit.template_ratio:g} of the texts each (in {shown}{more})",
        rows=rows,
        suggestion="add texts as people write them: a model learns the template instead of the "
        "class, and a test on it flatters",
        details=tuple(details),
    )

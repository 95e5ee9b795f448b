"""What is watched of every row beside its embedding: one number per feature, by task.

A feature that a row does not have (the script of a text without letters) is NaN. A new one is a
function, a line in READERS and its name under the tasks that have it.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgeloop.observer import Observation

# Of longer texts the beginning tells the script.
MOST_CHARACTERS = 1_000
# Of a probability below this the logarithm says nothing more.
SMALLEST_PROBABILITY = 1e-12
LATIN = "LATIN"
SCRIPTS_KEPT = 4_096

_ASCII_LETTER = re.compile(r"[A-Za-z]")


@dataclass(frozen=True)
class Context:
    """What a feature compares a row with: the reference's main script, and the direction of its
    mean embedding, (hidden,) of length 1."""

    main_script: str
    centre: NDArray[np.float32]


Read = Callable[[Observation, Context], float]


@lru_cache(SCRIPTS_KEPT)
def script_of(character: str) -> str:
    """The script of a letter, as Unicode names it ("LATIN", "CYRILLIC"); "" for anything else."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]


def count_scripts(text: str) -> Counter[str]:
    """How many letters of each script the beginning of a text has."""
    found: Counter[str] = Counter()
    for character, times in Counter(text[:MOST_CHARACTERS]).items():
        script = script_of(character)
        if script:
            found[script] += times
    return found


def main_script(texts: Iterable[str]) -> str:
    """The script of most letters; LATIN where there are none."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(count_scripts(text))
    return min(found, key=lambda script: (-found[script], script), default=LATIN)


def _confidence(row: Observation, _: Context) -> float:
    return float(row.probabilities.max())


def _entropy(row: Observation, _: Context) -> float:
    """Nats."""
    kept = np.maximum(row.probabilities, SMALLEST_PROBABILITY)
    return -float(row.probabilities @ np.log(kept))


def _least_token_confidence(row: Observation, _: Context) -> float:
    return row.answer.score


def _entities(row: Observation, _: Context) -> float:
    return float(len(row.answer.spans))


def _tagged_ratio(row: Observation, _: Context) -> float:
    """The share of the text's characters that lie in entities."""
    if not row.text:
        return math.nan
    return sum(span.end - span.start for span in row.answer.spans) / len(row.text)


def _labels(row: Observation, _: Context) -> float:
    return float(len(row.answer.labels))


def _centrality(row: Observation, context: Context) -> float:
    """Cosine to the reference's mean embedding."""
    norm = math.sqrt(float(row.embedding @ row.embedding))
    return float(row.embedding @ context.centre) / norm if norm > 0.0 else 0.0


def _token_length(row: Observation, _: Context) -> float:
    return float(row.tokens)


def _unknown_token_ratio(row: Observation, _: Context) -> float:
    """Unknown tokens (of a linear model, unknown n-grams) per token that was read."""
    return row.unknown_tokens / row.tokens if row.tokens else math.nan


def _characters_per_token(row: Observation, _: Context) -> float:
    return len(row.text) / row.tokens if row.tokens else math.nan


def _foreign_script_ratio(row: Observation, context: Context) -> float:
    """The share of letters that are not of the reference's main script."""
    if row.text.isascii():  # most texts, at a fiftieth of the time
        own = 0.0 if context.main_script == LATIN else 1.0
        return own if _ASCII_LETTER.search(row.text) else math.nan
    found = count_scripts(row.text)
    letters = sum(found.values())
    return 1.0 - found[context.main_script] / letters if letters else math.nan


READERS: dict[str, Read] = {
    "confidence": _confidence,
    "entropy": _entropy,
    "least_token_confidence": _least_token_confidence,
    "entities": _entities,
    "tagged_ratio": _tagged_ratio,
    "labels": _labels,
    "centrality": _centrality,
    "token_length": _token_length,
    "unknown_token_ratio": _unknown_token_ratio,
    "foreign_script_ratio": _foreign_script_ratio,
    "characters_per_token": _characters_per_token,
}
OF_TEXTS = ("token_length", "unknown_token_ratio", "foreign_script_ratio", "characters_per_token")
FEATURES: dict[str, tuple[str, ...]] = {
    "text-classification": ("confidence", "entropy", *OF_TEXTS),
    "multi-label-classification": ("confidence", "entropy", "labels", *OF_TEXTS),
    "token-classification": ("least_token_confidence", "entities", "tagged_ratio", *OF_TEXTS),
    "text-embedding": ("centrality", *OF_TEXTS),
}


def read_features(row: Observation, names: Iterable[str], context: Context) -> list[float]:
    """The features of one row, in the order of their names."""
    return [READERS[name](row, context) for name in names]

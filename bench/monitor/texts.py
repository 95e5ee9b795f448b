"""The benchmark's texts: four public data sets and the example's tickets, and what can happen to
a text. Everything is drawn with a seed, so that it is the same on every machine.
"""

import csv
import json
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from finetune.augment import typo

EXAMPLE = Path(__file__).parents[2] / "examples" / "support_tickets" / "data"
OTHER_LANGUAGE = Path(__file__).parent / "other_language.csv"
# Slot sets of fewer rows are one class: restaurant8k has 22 sets, 9 of them with under 100 rows.
LEAST_ROWS_PER_CLASS = 100
RARE = "other"
NO_SLOT = "none"
TYPO_RATIO = 0.3
KEPT_WORDS = 3


@dataclass(frozen=True)
class Text:
    """A text and its class; empty where the data set has none."""

    text: str
    label: str


def read_csv(path: Path, label: str) -> list[Text]:
    """A CSV with a column `text` and one for the class."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [Text(row["text"], row[label]) for row in csv.DictReader(stream)]


def banking77(data: Path, *splits: str) -> list[Text]:
    """Customer-service questions and their intents."""
    return [
        text for split in splits for text in read_csv(data / f"banking77/{split}.csv", "category")
    ]


def restaurant8k(data: Path) -> list[Text]:
    """Booking utterances; the class is which slots they fill."""
    found = []
    for split in ("train", "test"):
        rows = json.loads((data / f"restaurant8k/{split}.json").read_text(encoding="utf-8"))
        for row in rows:
            slots = sorted({label["slot"] for label in row.get("labels", [])})
            found.append(Text(row["userInput"]["text"], "+".join(slots) or NO_SLOT))
    rows_per_class = Counter(text.label for text in found)
    return [
        text if rows_per_class[text.label] >= LEAST_ROWS_PER_CLASS else Text(text.text, RARE)
        for text in found
    ]


def gsm8k(data: Path) -> list[Text]:
    """Maths questions, without classes."""
    found = []
    for split in ("train", "test"):
        with (data / f"gsm8k/{split}.jsonl").open(encoding="utf-8") as stream:
            found += [Text(json.loads(line)["question"], "") for line in stream]
    return found


def tickets(*splits: str) -> list[Text]:
    """The example's support tickets."""
    return [text for split in splits for text in read_csv(EXAMPLE / f"{split}.csv", "label")]


def other_language() -> list[str]:
    """German and Spanish questions about the same things, written for this benchmark."""
    return [row.text for row in read_csv(OTHER_LANGUAGE, "label")]


def with_typos(text: str, rng: random.Random) -> str:
    """TYPO_RATIO of the words get one typing error."""
    return " ".join(typo(word, rng) if rng.random() < TYPO_RATIO else word for word in text.split())


def truncated(text: str) -> str:
    """The first KEPT_WORDS words."""
    return " ".join(text.split()[:KEPT_WORDS])

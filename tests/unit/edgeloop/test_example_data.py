"""The example's own rows: enough of each kind, split cleanly, and about nobody."""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "examples" / "support_tickets" / "data"
SPLITS = ("train", "validation", "reference", "test", "shifted")
ORDINARY = SPLITS[:-1]
LEAST = {"train": 45, "reference": 42, "test": 20}
NEW_LABELS = {"cylinder_exchange", "trade_in"}
PORTUGUESE = {"não", "está", "minha", "quero", "máquina", "obrigado", "obrigada", "pedido", "você"}

Row = dict[str, str]


def read(split: str) -> list[Row]:
    with (DATA / f"{split}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


ROWS = {split: read(split) for split in SPLITS}
ALL = [(split, row) for split, rows in ROWS.items() for row in rows]


def counts(split: str) -> Counter[str]:
    return Counter(row["label"] for row in ROWS[split])


# -- shape and numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_a_file_has_the_four_columns_and_no_empty_cell(split: str) -> None:
    columns = ["id", "text", "label", "created_at"]
    assert [row for row in ROWS[split] if list(row) != columns or None in row.values()] == []
    assert [row for row in ROWS[split] if not all(v and v.strip() == v for v in row.values())] == []
    assert [row["label"] for row in ROWS[split] if not re.fullmatch("[a-z_]+", row["label"])] == []


def test_ids_and_texts_are_unique() -> None:
    assert [i for i, n in Counter(row["id"] for _, row in ALL).items() if n > 1] == []
    assert [t for t, n in Counter(row["text"].casefold() for _, row in ALL).items() if n > 1] == []


@pytest.mark.parametrize("split", SPLITS)
def test_times_are_utc_and_increase_within_a_file(split: str) -> None:
    times = [datetime.strptime(r["created_at"], "%Y-%m-%dT%H:%M:%SZ") for r in ROWS[split]]
    assert all(before < after for before, after in pairwise(times))
    assert times[-1].replace(tzinfo=UTC).year == 2026


def test_each_split_comes_after_the_one_before() -> None:
    for before, after in pairwise(SPLITS):
        assert ROWS[before][-1]["created_at"] < ROWS[after][0]["created_at"]


def test_there_are_enough_intents_and_rows_of_each() -> None:
    labels = set(counts("train"))
    assert len(labels) >= 12
    for split in ORDINARY:
        assert set(counts(split)) == labels
    for split, least in LEAST.items():
        assert min(counts(split).values()) >= least, split
    assert len(ROWS["reference"]) >= 500


def test_the_shifted_rows_bring_two_new_intents_and_portuguese() -> None:
    assert len(ROWS["shifted"]) >= 300
    new = set(counts("shifted")) - set(counts("train"))
    assert new == NEW_LABELS
    assert min(counts("shifted")[label] for label in new) >= 20
    portuguese = [r for r in ROWS["shifted"] if PORTUGUESE & words(r["text"])]
    assert len(portuguese) >= 20
    assert not [r for _, r in ALL if r not in ROWS["shifted"] and PORTUGUESE & words(r["text"])]


# -- no near-duplicate crosses a split ---------------------------------------------------------


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))


def grams(text: str) -> set[str]:
    plain = re.sub(r"\s+", " ", text.casefold()).strip()
    return {plain[i : i + 5] for i in range(max(1, len(plain) - 4))}


def jaccard(one: set[str], two: set[str]) -> float:
    union = len(one | two)
    return len(one & two) / union if union else 1.0


def near(one: str, two: str) -> bool:
    by_word, by_gram = jaccard(words(one), words(two)), jaccard(grams(one), grams(two))
    return min(by_word, by_gram) >= 0.6 or max(by_word, by_gram) >= 0.7


def candidates() -> Iterator[tuple[int, int]]:
    """Pairs from two splits that share a word or a gram: others cannot be near."""
    postings: dict[str, list[int]] = defaultdict(list)
    features = [grams(row["text"]) | words(row["text"]) for _, row in ALL]
    for i, own in enumerate(features):
        shared = Counter(j for feature in own for j in postings[feature])
        # A Jaccard index of 0.6 on either set needs at least 0.6 of the larger one in common.
        least = 0.6 * min(len(words(ALL[i][1]["text"])), len(grams(ALL[i][1]["text"])))
        yield from ((j, i) for j, n in shared.items() if n >= least and ALL[j][0] != ALL[i][0])
        for feature in own:
            postings[feature].append(i)


def test_near_means_what_it_says() -> None:
    assert near("Where is my parcel?", "where is MY parcel")
    assert near("cancel my order please", "please cancel my order")
    assert not near("cancel my order please", "where is my parcel")


def test_no_near_duplicate_crosses_a_split() -> None:
    offending = [
        (ALL[i][1]["id"], ALL[i][1]["text"], ALL[j][1]["id"], ALL[j][1]["text"])
        for i, j in candidates()
        if near(ALL[i][1]["text"], ALL[j][1]["text"])
    ]
    assert offending == []


# -- about nobody ------------------------------------------------------------------------------

PRIVATE = {
    "an e-mail address": r"[\w.+-]+@[\w-]+\.\w+",
    "a link": r"https?://|www\.",
    "a card number": r"(?:\d[ -]?){13,19}",
    "a phone number": r"\+\d[\d ()-]{6,}|\b\d{3}[ -]\d{3,4}[ -]\d{3,4}\b|\b0\d{9,10}\b",
    "an account number": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,}",
}
SAMPLES = {
    "an e-mail address": "a.b@c.org",
    "a link": "https://x",
    "a card number": "4111 1111 1111 1111",
    "a phone number": "+44 20 7946 0958",
    "an account number": "GB33 BUKB 2020 1555 5555",
}


@pytest.mark.parametrize("kind", PRIVATE)
def test_a_pattern_finds_what_it_names(kind: str) -> None:
    assert re.search(PRIVATE[kind], f"my thing is {SAMPLES[kind]}, ok")


@pytest.mark.parametrize("kind", PRIVATE)
def test_no_row_holds_something_private(kind: str) -> None:
    assert [row for _, row in ALL if re.search(PRIVATE[kind], row["text"])] == []

"""Which words, n-grams and classes moved: recent rows against the reference, without any text.

Words are ranked by the z-score of their log odds with an informative prior (Monroe, Colaresi and
Quinn, "Fightin' Words", 2008, equations 16 and 22), counted once per row. Words with a digit or
an @ are left out: they are order numbers and addresses, not topics. N-grams (two words in a row;
three characters of scripts without spaces) say more than words, so that only salted hashes of them
are kept: who has the rows can hash theirs with the bundle's salt and look.
"""

import hashlib
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TypeVar

from edgeloop.records import Movement

MOST_REFERENCE_WORDS = 4_000
LEAST_REFERENCE_ROWS = 2
# A word of fewer recent rows may be one person's own; it is never shown.
LEAST_RECENT_ROWS = 3
RECENT_ROWS = 200
LONGEST_TEXT = 10_000
LONGEST_WORD = 40
# The prior weighs as much as so many rows: it holds back words that are merely rare.
PRIOR_ROWS = 100.0
# One-sided 5 %: what moved less is not worth a reader's time.
LEAST_Z = 1.645
MOST_WORDS = 10
MOST_CLASSES = 5
MOST_NGRAMS_PER_ROW = 64
HASH_BYTES = 4
# Of words this long in another alphabet than ours, parts of three characters are n-grams as well.
LONG_RUN = 6

Name = TypeVar("Name", str, int)

_REDACTED = re.compile(r"[\d@]")
_WORD = re.compile(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*")


def word_list(text: str) -> list[str]:
    """The lower-case words of a text that may be shown, in order."""
    kept = text[:LONGEST_TEXT].lower()
    if _REDACTED.search(kept):
        kept = " ".join(piece for piece in kept.split() if not _REDACTED.search(piece))
    return [word for word in _WORD.findall(kept) if len(word) <= LONGEST_WORD]


def words_of(text: str) -> frozenset[str]:
    """The distinct words of a text that may be shown."""
    return frozenset(word_list(text))


def hash_ngrams(words: Sequence[str], salt: bytes) -> frozenset[int]:
    """Salted hashes of the n-grams of a text's words: four bytes of
    BLAKE2b each. The salt has at most 16 bytes."""
    found = [f"{first} {second}" for first, second in pairwise(words[: MOST_NGRAMS_PER_ROW + 1])]
    for word in words:
        if len(word) >= LONG_RUN and not word.isascii():
            found += [word[at : at + 3] for at in range(len(word) - 2)]
    return frozenset(
        int.from_bytes(
            hashlib.blake2b(ngram.encode(), digest_size=HASH_BYTES, salt=salt).digest(), "big"
        )
        for ngram in dict.fromkeys(found[:MOST_NGRAMS_PER_ROW])
    )


def count_words(texts: Iterable[str]) -> dict[str, int]:
    """In how many texts each word stands: the commonest words that stand in at least two."""
    return _commonest(Counter(word for text in texts for word in words_of(text)))


def count_ngrams(texts: Iterable[str], salt: bytes) -> dict[int, int]:
    """The same of hashed n-grams."""
    return _commonest(
        Counter(ngram for text in texts for ngram in hash_ngrams(word_list(text), salt))
    )


def _commonest(counts: "Counter[Name]") -> "dict[Name, int]":
    known = [item for item in counts.items() if item[1] >= LEAST_REFERENCE_ROWS]
    return dict(sorted(known, key=lambda item: (-item[1], item[0]))[:MOST_REFERENCE_WORDS])


@dataclass(frozen=True, slots=True)
class RecentRow:
    """What is kept of a row for a while: its words, hashed n-grams, class, the reference cluster
    that it lies in, and its features."""

    words: frozenset[str]
    ngrams: frozenset[int]
    predicted: int
    cluster: int
    features: tuple[float, ...]


class Recent:
    """The last RECENT_ROWS rows."""

    def __init__(self) -> None:
        self._rows: deque[RecentRow] = deque(maxlen=RECENT_ROWS)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: RecentRow) -> None:
        """Take a row; the oldest leaves when there are too many."""
        self._rows.append(row)

    def rows(self) -> tuple[RecentRow, ...]:
        """The rows, oldest first."""
        return tuple(self._rows)

    def last(self, rows: int) -> list[RecentRow]:
        """The last `rows` rows, newest first."""
        return list(islice(reversed(self._rows), rows))


def log_odds_z(recent: int, recent_rows: int, known: int, known_rows: int) -> float:
    """z-score of "a larger share of recent rows has the word", the prior at the pooled share."""
    prior = PRIOR_ROWS * (recent + known) / (recent_rows + known_rows)
    here, there = recent + prior, known + prior
    odds_here = math.log(here / (recent_rows + PRIOR_ROWS - here))
    odds_there = math.log(there / (known_rows + PRIOR_ROWS - there))
    return (odds_here - odds_there) / math.sqrt(1.0 / here + 1.0 / there)


def risen_words(
    recent: Mapping[str, int], recent_rows: int, known: Mapping[str, int], known_rows: int
) -> tuple[Movement, ...]:
    """The words that rose most, best first; counts are rows with the word."""
    return tuple(
        _movement(word, recent[word], recent_rows, known.get(word, 0), known_rows)
        for word in _risen(recent, recent_rows, known, known_rows)
    )


def risen_ngrams(
    recent: Mapping[int, int], recent_rows: int, known: Mapping[int, int], known_rows: int
) -> tuple[Movement, ...]:
    """The same of hashed n-grams, by their hash in hexadecimal."""
    return tuple(
        _movement(f"{ngram:08x}", recent[ngram], recent_rows, known.get(ngram, 0), known_rows)
        for ngram in _risen(recent, recent_rows, known, known_rows)
    )


def _risen(
    recent: "Mapping[Name, int]", recent_rows: int, known: "Mapping[Name, int]", known_rows: int
) -> "list[Name]":
    """What stands in a larger share of recent rows than of known ones, by z-score, best first; no
    more than MOST_WORDS, and nothing of fewer than LEAST_RECENT_ROWS recent rows."""
    ranked = []
    for name, count in recent.items():
        if count < LEAST_RECENT_ROWS or count * known_rows <= known.get(name, 0) * recent_rows:
            continue  # too private to show, or it has not risen
        z = log_odds_z(count, recent_rows, known.get(name, 0), known_rows)
        if z >= LEAST_Z:
            ranked.append((-z, name))
    return [name for _, name in sorted(ranked)[:MOST_WORDS]]


def _movement(name: str, recent: int, recent_rows: int, known: int, known_rows: int) -> Movement:
    return Movement(
        name=name, reference_ratio=known / known_rows, recent_ratio=recent / recent_rows
    )


def moved_classes(
    recent: Mapping[int, int], recent_rows: int, known: Sequence[int], labels: Sequence[str]
) -> tuple[Movement, ...]:
    """The classes whose predicted share moved most, up or down, largest first."""
    rows = sum(known)
    movements = [
        Movement(
            name=label,
            reference_ratio=known[index] / rows,
            recent_ratio=recent.get(index, 0) / recent_rows,
        )
        for index, label in enumerate(labels)
    ]
    movements.sort(key=lambda m: (-abs(m.recent_ratio - m.reference_ratio), m.name))
    return tuple(movements[:MOST_CLASSES])

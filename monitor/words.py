"""Which words and classes moved: recent rows against the reference, without keeping any text.

Words are ranked by the z-score of their log odds with an informative prior (Monroe, Colaresi and
Quinn, "Fightin' Words", 2008, equations 16 and 22), counted once per row. Words with a digit or
an @ are left out: they are order numbers and addresses, not topics.
"""

import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

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

_REDACTED = re.compile(r"[\d@]")
_WORD = re.compile(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*")


def words_of(text: str) -> frozenset[str]:
    """The distinct lower-case words of a text that may be shown."""
    kept = text[:LONGEST_TEXT].lower()
    if _REDACTED.search(kept):
        kept = " ".join(piece for piece in kept.split() if not _REDACTED.search(piece))
    return frozenset(word for word in _WORD.findall(kept) if len(word) <= LONGEST_WORD)


def count_words(texts: Iterable[str]) -> dict[str, int]:
    """In how many texts each word stands: the commonest words that stand in at least two."""
    counts = Counter(word for text in texts for word in words_of(text))
    known = [item for item in counts.items() if item[1] >= LEAST_REFERENCE_ROWS]
    return dict(sorted(known, key=lambda item: (-item[1], item[0]))[:MOST_REFERENCE_WORDS])


class Recent:
    """The words and classes of the last RECENT_ROWS rows."""

    def __init__(self) -> None:
        self._rows: deque[tuple[frozenset[str], int]] = deque(maxlen=RECENT_ROWS)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, text: str, predicted: int) -> None:
        """Take a row; the oldest leaves when there are too many."""
        self.add_words(words_of(text), predicted)

    def add_words(self, words: frozenset[str], predicted: int) -> None:
        """Take a row by its words."""
        self._rows.append((words, predicted))

    def rows(self) -> tuple[tuple[frozenset[str], int], ...]:
        """The rows, oldest first."""
        return tuple(self._rows)

    def count(self, rows: int) -> tuple[Counter[str], Counter[int]]:
        """In how many of the last `rows` rows each word stands, and how many got each class."""
        last = list(islice(reversed(self._rows), rows))
        words = Counter(word for own, _ in last for word in own)
        return words, Counter(predicted for _, predicted in last)


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
    ranked = []
    for word, count in recent.items():
        if count < LEAST_RECENT_ROWS or count * known_rows <= known.get(word, 0) * recent_rows:
            continue  # too private to show, or it has not risen
        z = log_odds_z(count, recent_rows, known.get(word, 0), known_rows)
        if z >= LEAST_Z:
            ranked.append((-z, word))
    return tuple(
        Movement(
            name=word,
            reference_ratio=known.get(word, 0) / known_rows,
            recent_ratio=recent[word] / recent_rows,
        )
        for _, word in sorted(ranked)[:MOST_WORDS]
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

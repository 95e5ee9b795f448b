"""Noise on training rows: typing errors, casing and words left out, as they come from people who
type in a hurry. Only the first text changes, and nothing that a span marks but its casing.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edgeloop.recipe import Augment
from edgeloop.rows import Row, Span

# Letters that lie side by side on a QWERTY keyboard.
KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
MIN_LETTERS_TO_DELETE = 3
WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Word:
    """A run of characters without white space, the white space before it, where it begins, and
    whether a span marks any of it."""

    gap: str
    text: str
    start: int
    is_marked: bool


def augmented(row: Row, augment: Augment, seed: int, epoch: int) -> Row:
    """The row as it is trained on in this epoch: a function of its id, the seed and the epoch; the
    row itself where all ratios are 0. Spans mark the same words as before."""
    if not (augment.typo_ratio or augment.casing_ratio or augment.word_dropout_ratio):
        return row
    # random hashes a text that is its seed, the same way on every machine.
    rng = random.Random(f"{seed} {epoch} {row.id}")
    kept = _without_some(_words(row), augment.word_dropout_ratio, rng)
    if not kept:
        return row
    typed = [
        typo(word.text, rng) if rng.random() < augment.typo_ratio and not word.is_marked
        else word.text
        for word in kept
    ]  # fmt: skip
    text, spans = _joined(row, kept, typed)
    if rng.random() < augment.casing_ratio:
        text = cased(text, rng)
    return replace(row, text=text, spans=spans)


def typo(word: str, rng: random.Random) -> str:
    """The word with one typing error: a key beside the right one, two letters swapped, one left
    out or one doubled. A word without letters (a number, a sign) stays as it is."""
    letters = [i for i, character in enumerate(word) if character.isalpha()]
    if not letters:
        return word
    return rng.choice([made for error in ERRORS if (made := error(word, letters, rng))])


def cased(text: str, rng: random.Random) -> str:
    """The text in another casing, character for character: where a letter's other case has more
    than one, it stays, so that offsets hold. A text without cases stays as it is."""
    changes: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.swapcase)
    variants = ["".join(_same_length(c, change) for c in text) for change in changes]
    different = [variant for variant in variants if variant != text]
    return rng.choice(different) if different else text


def _same_length(character: str, change: Callable[[str], str]) -> str:
    changed = change(character)
    return changed if len(changed) == 1 else character


def _words(row: Row) -> list[Word]:
    words, end = [], 0
    for match in WORD.finditer(row.text):
        is_marked = any(s.start < match.end() and match.start() < s.end for s in row.spans)
        words.append(Word(row.text[end : match.start()], match.group(), match.start(), is_marked))
        end = match.end()
    return words


def _without_some(words: Sequence[Word], ratio: float, rng: random.Random) -> list[Word]:
    """The words that stay: all marked ones, and at least one."""
    kept = [word for word in words if not rng.random() < ratio or word.is_marked]
    return kept if kept or not words else [rng.choice(words)]


def _joined(row: Row, kept: Sequence[Word], typed: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """The text of these words with the white space before each, and the spans where their words
    are now. Marked words are all there, unchanged, and so is the white space between them."""
    parts: list[str] = []
    shifts: dict[int, int] = {}
    length = 0
    for position, (word, text) in enumerate(zip(kept, typed, strict=True)):
        follows_dropped = position == 0 and word.start > len(word.gap)
        gap = "" if follows_dropped else word.gap
        parts += [gap, text]
        shift = length + len(gap) - word.start
        shifts |= {i: shift for i in range(word.start, word.start + len(word.text))}
        length += len(gap) + len(text)
    spans = tuple(
        Span(s.start + shifts[s.start], s.end + shifts[s.end - 1], s.label) for s in row.spans
    )
    tail = row.text[len(row.text.rstrip()) :]
    return "".join(parts) + tail, spans


def _neighbouring_key(word: str, letters: Sequence[int], rng: random.Random) -> str | None:
    places = [i for i in letters if word[i].lower() in NEIGHBOURS]
    if not places:
        return None
    place = rng.choice(places)
    key = rng.choice(NEIGHBOURS[word[place].lower()])
    return _with(word, place, 1, key.upper() if word[place].isupper() else key)


def _swapped(word: str, letters: Sequence[int], rng: random.Random) -> str | None:
    places = [i for i in letters if i + 1 in letters and word[i] != word[i + 1]]
    if not places:
        return None
    place = rng.choice(places)
    return _with(word, place, 2, word[place + 1] + word[place])


def _left_out(word: str, letters: Sequence[int], rng: random.Random) -> str | None:
    if len(letters) < MIN_LETTERS_TO_DELETE:
        return None
    return _with(word, rng.choice(letters), 1, "")


def _doubled(word: str, letters: Sequence[int], rng: random.Random) -> str | None:
    place = rng.choice(letters)
    return _with(word, place, 1, word[place] * 2)


def _with(word: str, place: int, length: int, replacement: str) -> str:
    return word[:place] + replacement + word[place + length :]


def _neighbours() -> dict[str, str]:
    return {
        key: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
        for row in KEY_ROWS
        for i, key in enumerate(row)
    }


NEIGHBOURS = _neighbours()
ERRORS = (_neighbouring_key, _swapped, _left_out, _doubled)

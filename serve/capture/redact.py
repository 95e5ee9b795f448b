"""Personal data out of a text before it is written: e-mail, IBAN, card and telephone numbers, each
replaced by <kind>. Where it is unsure, it takes too much away rather than too little.

    <email>    anything around an @ with a dotted name behind it
    <iban>     country, length and check digits are right
    <card>     13 to 19 digits with a card's start and Luhn's check digit
    <phone>    7 to 15 digits after a +; 9 to 15 without, in groups or not
    <number>   a run of groups with more digits than a telephone number has

Names, addresses and short local numbers are not found: that is what `patterns` are for.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator

from edgeloop.personal import CARD_DIGITS, IBAN_LENGTHS, LONGEST_IBAN, is_card, is_iban

BREAK = " \\-./()\u00a0\u202f\u2009\u2010\u2011\u2013"
RUN = re.compile(rf"\d(?:[{BREAK}]{{0,3}}\d)*")
GROUP = re.compile(r"\d+")
# A date is left alone where a telephone number may begin.
DATE_OR_RUN = re.compile(
    rf"(?<!\d)\d{{4}}-\d\d-\d\d(?![\d-])|(?P<plus>[+\uff0b] ?)?\(?(?P<run>{RUN.pattern})"
)
IBAN_START = re.compile(r"[A-Za-z]{2}[ -]?[0-9]{2}")
IBAN_BREAK = frozenset(" -.\u00a0\u202f")
DOMAIN = re.compile(r"[\w-]+(?:\.[\w-]+)+")
NO_LOCAL_PART = frozenset('@<>()[],;:"')
INTERNATIONAL_DIGITS = 7
NATIONAL_DIGITS = 9
MOST_PHONE_DIGITS = 15  # E.164
MOST_GROUP_DIGITS = 12
# One replacement may lay another number bare; three rounds have never left one.
ROUNDS = 4

Found = Iterator[tuple[int, int, str]]


def redact(text: str) -> str:
    """The text without what was found in it."""
    for _ in range(ROUNDS):
        before = text
        for find in (_emails, _ibans, _cards, _phones):
            text = _replace(text, find)
        if text == before:
            break
    return text


def _replace(text: str, find: Callable[[str], Found]) -> str:
    parts, position = [], 0
    for start, end, kind in find(text):
        parts += [text[position:start], f"<{kind}>"]
        position = end
    return "".join([*parts, text[position:]]) if parts else text


def _emails(text: str) -> Found:
    position, at = 0, text.find("@")
    while at >= 0:
        start = at
        while start > position and _of_local_part(text[start - 1]):
            start -= 1
        domain = DOMAIN.match(text, at + 1)
        if domain is not None and start < at:
            yield start, domain.end(), "email"
            position = domain.end()
        at = text.find("@", max(at + 1, position))


def _of_local_part(character: str) -> bool:
    return not (character in NO_LOCAL_PART or character.isspace())


def _ibans(text: str) -> Found:
    position = 0
    for match in IBAN_START.finditer(text):
        if match.start() < position or match.group()[:2].upper() not in IBAN_LENGTHS:
            continue
        end = _iban_end(text, match.start())
        if end is not None:
            yield match.start(), end, "iban"
            position = end


def _iban_end(text: str, start: int) -> int | None:
    """Where the IBAN that begins here ends; None where there is none."""
    length = IBAN_LENGTHS[text[start : start + 2].upper()]
    compact, position = "", start
    while len(compact) < length and position < min(len(text), start + 2 * LONGEST_IBAN):
        character = text[position]
        if character.isascii() and character.isalnum():
            compact += character
        elif character not in IBAN_BREAK:
            return None
        position += 1
    return position if is_iban(compact) else None


def _cards(text: str) -> Found:
    for run in RUN.finditer(text):
        groups = [(run.start() + g.start(), run.start() + g.end()) for g in GROUP.finditer(run[0])]
        for first, last in _united(_card_windows(text, groups)):
            yield groups[first][0], groups[last][1], "card"


def _card_windows(text: str, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Every stretch of whole groups [first, last] that is a card's number."""
    for first in range(len(groups)):
        digits = ""
        for last in range(first, len(groups)):
            start, end = groups[last]
            if len(digits) + end - start >= CARD_DIGITS.stop:
                break
            digits += _ascii(text[start:end])
            if is_card(digits):
                yield first, last


def _united(windows: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Windows that overlap become one."""
    united: list[tuple[int, int]] = []
    for first, last in windows:
        if united and first <= united[-1][1]:
            united[-1] = (united[-1][0], max(last, united[-1][1]))
        else:
            united.append((first, last))
    return united


def _phones(text: str) -> Found:
    for match in DATE_OR_RUN.finditer(text):
        if match["run"] is None:
            continue
        offset = match.start("run")
        groups = [(offset + g.start(), offset + g.end()) for g in GROUP.finditer(match["run"])]
        international = match["plus"] is not None
        for stretch in _stretches(groups):
            digits = sum(end - start for start, end in stretch)
            from_start = stretch[0] == groups[0]
            least = INTERNATIONAL_DIGITS if international and from_start else NATIONAL_DIGITS
            if digits < least or (len(stretch) == 1 and digits > MOST_PHONE_DIGITS):
                continue
            start = match.start() if from_start else stretch[0][0]
            yield start, stretch[-1][1], "phone" if digits <= MOST_PHONE_DIGITS else "number"


def _stretches(groups: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """The groups without those that are too long for a telephone number's, which stand alone."""
    stretches: list[list[tuple[int, int]]] = [[]]
    for group in groups:
        if group[1] - group[0] > MOST_GROUP_DIGITS:
            stretches += [[group], []]
        else:
            stretches[-1].append(group)
    return [stretch for stretch in stretches if stretch]


def _ascii(digits: str) -> str:
    """Decimal digits of any script as 0 to 9."""
    return "".join(str(unicodedata.decimal(digit)) for digit in digits)

"""Personal data in a text: where it is and of what kind."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from edgeloop.errors import RecipeError
from edgeloop.personal import IBAN_START, cards, emails
from edgeloop.recipe import Audit

IBAN_CHARACTERS = range(15, 35)
MIN_PHONE_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Personal:
    """Characters [start, end) of a text, and what they are."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterator[tuple[int, int]]]


def finders(audit: Audit) -> list[tuple[str, Finder]]:
    """What to look for, in the order in which one finding shuts out another that overlaps it.

    Raises RecipeError for a region that has no telephone numbers.
    """
    phones = phone_finder(audit.phone_regions)
    known: dict[str, Finder] = {"email": emails, "iban": ibans, "card": cards, "phone": phones}
    chosen = [(kind, find) for kind, find in known.items() if kind in set[str](audit.pii)]
    if audit.names:
        chosen.append(("name", name_finder(audit.names)))
    return chosen


def find_personal(text: str, chosen: Sequence[tuple[str, Finder]]) -> list[Personal]:
    """What there is in the text, in order, none overlapping another."""
    found: list[Personal] = []
    for kind, find in chosen:
        for start, end in find(text):
            if all(end <= other.start or start >= other.end for other in found):
                found.append(Personal(start, end, kind))
    return sorted(found, key=lambda item: item.start)


def masked(value: str) -> str:
    """The shape of a value: its first character, the others as *, punctuation as it is."""
    return value[:1] + re.sub(r"\w", "*", value[1:])


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """Account numbers whose country, length and check digits are right, spaced or not."""
    from schwifty import IBAN
    from schwifty.exceptions import SchwiftyException

    for match in IBAN_START.finditer(text):
        for end in _ends(text, match.start()):
            try:
                IBAN(text[match.start() : end])
            except SchwiftyException:
                continue
            yield match.start(), end
            break


def _ends(text: str, start: int) -> Iterator[int]:
    """Ends of what may be an IBAN: single spaces between letters and digits are passed over."""
    characters = 0
    for position in range(start, len(text)):
        character = text[position]
        if character.isascii() and character.isalnum():
            characters += 1
            following = text[position + 1 : position + 2]
            if characters in IBAN_CHARACTERS and not following.isalnum():
                yield position + 1
        elif character != " " or text[position - 1] == " ":
            return
        if characters >= IBAN_CHARACTERS.stop:
            return


def phone_finder(regions: Sequence[str]) -> Finder:
    """Finds valid telephone numbers with a country code, and those written as in the regions."""
    import phonenumbers

    unknown = [region for region in regions if region not in phonenumbers.SUPPORTED_REGIONS]
    if unknown:
        raise RecipeError(
            f"data.audit.phone_regions: {', '.join(unknown)}: no such region; write ISO 3166 codes "
            "such as GB"
        )

    def find(text: str) -> Iterator[tuple[int, int]]:
        if sum(map(str.isdigit, text)) < MIN_PHONE_DIGITS:
            return
        for region in regions or (None,):
            if region is not None or "+" in text or "\uff0b" in text:
                for match in phonenumbers.PhoneNumberMatcher(text, region):
                    yield match.start, match.end

    return find


def name_finder(names: Sequence[str]) -> Finder:
    """Finds whole words in any case, accents composed or not."""
    forms = {unicodedata.normalize(form, name.strip()) for name in names for form in ("NFC", "NFD")}
    longest_first = sorted(filter(None, forms), key=lambda name: (-len(name), name))
    if not longest_first:
        return lambda text: iter(())
    words = re.compile(
        rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?![\w\u0300-\u036f])", re.IGNORECASE
    )
    return lambda text: (match.span() for match in words.finditer(text))

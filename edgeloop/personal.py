"""Personal data by its own form: what needs no library of telephone plans or banks."""

import re
from collections.abc import Iterator

EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w-])"
)
DIGIT_RUN = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d]|[.-]\d)")
IBAN_START = re.compile(r"(?<![^\W_])[A-Za-z]{2}\d{2}(?=[ ]?[A-Za-z0-9])")
CARD_DIGITS = range(13, 20)
# The first digits of the card networks: Visa, Mastercard, American Express, Diners, JCB, Discover,
# UnionPay, Maestro. Without them one number in ten would be a card.
CARD_START = re.compile(r"4|5[0-8]|2[2-7]|3[0568]|3[47]|6")
# Characters of an IBAN by its country. Source: SWIFT's IBAN registry.
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
LONGEST_IBAN = max(IBAN_LENGTHS.values())


def emails(text: str) -> Iterator[tuple[int, int]]:
    """Where e-mail addresses are: [start, end)."""
    if "@" in text:
        yield from (match.span() for match in EMAIL.finditer(text))


def cards(text: str) -> Iterator[tuple[int, int]]:
    """Runs of 13 to 19 digits with the start and the check digit (Luhn) of a card."""
    for match in DIGIT_RUN.finditer(text):
        if is_card(re.sub(r"\D", "", match.group())):
            yield match.span()


def is_card(digits: str) -> bool:
    """A card's length, start and check digit; not one digit repeated."""
    fits = len(digits) in CARD_DIGITS and CARD_START.match(digits) is not None
    return fits and luhn(digits) and len(set(digits)) > 1


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1)."""
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + position % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0


def is_iban(compact: str) -> bool:
    """Its country's length and the right check digits (ISO 13616); ASCII without spaces."""
    letters = compact.upper()
    if len(letters) != IBAN_LENGTHS.get(letters[:2]):
        return False
    moved = letters[4:] + letters[:4]
    return int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1

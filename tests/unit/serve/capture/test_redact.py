"""Redaction: what is personal by its form does not survive, whatever stands around it."""

import re
import string

import phonenumbers
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from schwifty import IBAN
from schwifty.registry import get_countries, get_iban_spec

from edgeloop.personal import IBAN_LENGTHS, is_card, is_iban, luhn
from serve.capture.redact import NATIONAL_DIGITS, redact

REDACTED = {
    "": "",
    "mail to jane.doe+x@mail.example.co.uk.": "mail to <email>.",
    "Jane <jane@example.org>, please": "Jane <<email>>, please",
    "mailto:jane@example.org?subject=hi": "mailto:<email>?subject=hi",
    "ünï@exämple.de": "<email>",
    "a@b@example.org": "a@<email>",
    "card 4111 1111 1111 1111, ok": "card <card>, ok",
    "5500-0000-0000-0004": "<card>",
    "4111.1111.1111.1111": "<card>",
    "4111111111111111 123": "<card> 123",
    "4111 1111 1111 1111 4111 1111 1111 1111": "<card> <card>",
    "\u0664\u0661\u0661\u0661 1111 1111 1111": "<card>",
    "DE89 3704 0044 0532 0130 00 PLEASE": "<iban> PLEASE",
    "to de89370400440532013000.": "to <iban>.",
    "call +44 20 7946 0958 now": "call <phone> now",
    "call 020 7946 0958 now": "call <phone> now",
    "call (212) 555-0123!": "call <phone>!",
    "or 02079460958": "or <phone>",
    "\uff0b49 30 901820": "<phone>",
    "4111 1111 1111 1112": "<number>",
    "020 7946 0958 020 7946 0959": "<number>",
}
LEFT = [
    "user@localhost and @handle",
    "order 12345678",
    "order 12345678901234567",
    "the year 2024-12-31 at 12:30:45",
    "2024-12-31 12:30",
    "3.141592653589793238",
    "0000 0000",
    "12 items at 9.99, page 100-120",
]
WORDS = st.text(string.ascii_letters + " ,;!?\n\u2026äß", max_size=12)


@pytest.mark.parametrize("text", REDACTED)
def test_what_is_personal_is_taken_out(text: str) -> None:
    assert redact(text) == REDACTED[text]


@pytest.mark.parametrize("text", LEFT)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=200))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@given(st.text(" ,;!?\n" + string.ascii_letters, max_size=200))
def test_text_without_numbers_and_addresses_is_not_touched(text: str) -> None:
    assert redact(text) == text


# -- nothing survives --------------------------------------------------------------------------


@given(
    before=WORDS,
    after=WORDS,
    local=st.text(string.ascii_letters + string.digits + ".+_-%'", min_size=1, max_size=90),
    domain=st.lists(
        st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True), min_size=1, max_size=3
    ),
    top=st.sampled_from(["com", "de", "co.uk", "xn--p1ai", "museum"]),
)
def test_no_address_survives(
    before: str, after: str, local: str, domain: list[str], top: str
) -> None:
    address = f"{local}@{'.'.join([*domain, top])}"
    assert "@" not in redact(f"{before} {address} {after}")


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    start = draw(st.sampled_from(["4", "51", "2221", "34", "37", "6011", "62", "3528", "36"]))
    length = draw(st.integers(13, 19))
    body = start + draw(st.text(string.digits, min_size=length, max_size=length))[len(start) + 1 :]
    digits = next(body + check for check in string.digits if luhn(body + check))
    assume(is_card(digits))
    return digits


@given(number=card_numbers(), before=WORDS, after=WORDS, mark=st.sampled_from(" -.\u00a0"))
def test_no_card_survives_in_one_piece_or_in_groups(
    number: str, before: str, after: str, mark: str
) -> None:
    for written in (number, mark.join(re.findall(".{1,4}", number))):
        said = redact(f"{before}{written} {after}")
        assert not re.search(r"\d", said)
        assert "<card>" in said


@given(st.text(string.digits, min_size=12, max_size=18))
def test_of_ten_check_digits_one_is_right(digits: str) -> None:
    assert sum(luhn(digits + check) for check in string.digits) == 1


def test_every_countrys_iban_has_its_length() -> None:
    lengths = {country: get_iban_spec(country).iban_length for country in get_countries()}
    wrong = {
        country: (IBAN_LENGTHS.get(country), length)
        for country, length in lengths.items()
        if IBAN_LENGTHS.get(country) != length
    }
    assert wrong == {}


@st.composite
def ibans(draw: st.DrawFn, alphabet: str = string.digits + string.ascii_uppercase) -> str:
    country = draw(st.sampled_from(sorted(IBAN_LENGTHS)))
    size = IBAN_LENGTHS[country] - 4
    body = draw(st.text(alphabet, min_size=size, max_size=size))
    rest = int("".join(str(int(letter, 36)) for letter in body + country + "00")) % 97
    return f"{country}{98 - rest:02d}{body}"


@given(number=ibans(), before=WORDS, after=WORDS, lower=st.booleans())
def test_no_iban_survives_spaced_or_not(number: str, before: str, after: str, lower: bool) -> None:
    number = number.lower() if lower else number
    for written in (number, " ".join(re.findall(".{1,4}", number))):
        said = redact(f"{before} {written} {after}")
        assert written not in said
        assert number[-6:] not in said.replace(" ", "").replace(after.replace(" ", ""), "")


@given(number=ibans(string.digits), place=st.integers(4, 14), more=st.integers(1, 9))
def test_a_changed_iban_is_none(number: str, place: int, more: int) -> None:
    digit = str((int(number[place]) + more) % 10)
    assert is_iban(number)
    assert not is_iban(number[:place] + digit + number[place + 1 :])


def test_the_check_agrees_with_a_library_of_banks() -> None:
    for text in ("DE89370400440532013000", "GB33BUKB20201555555555", "NO9386011117947"):
        assert IBAN(text).compact == text
        assert is_iban(text)


FORMATS = (
    phonenumbers.PhoneNumberFormat.E164,
    phonenumbers.PhoneNumberFormat.INTERNATIONAL,
    phonenumbers.PhoneNumberFormat.NATIONAL,
)


@pytest.mark.parametrize("region", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_no_telephone_number_survives(region: str) -> None:
    """Every region's example, mobile and fixed, as its people write it. Without country code only
    from nine digits on: shorter ones look like any other number."""
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        number = phonenumbers.example_number_for_type(region, kind)
        if number is None:
            continue
        for written in (phonenumbers.format_number(number, style) for style in FORMATS):
            digits = sum(map(str.isdigit, written))
            if written.startswith("+") and digits >= 7 or digits >= NATIONAL_DIGITS:
                assert not re.search(r"\d{3}", redact(f"call {written} now")), written


@pytest.mark.parametrize(
    "text",
    ["@" * 10_000, "a" * 10_000, "a@" * 5_000, "1 " * 5_000, "a." * 5_000, "a@a" + ".a" * 5_000,
     "DE89 " * 2_000, "+1" * 5_000, "4" * 10_000, "4111 " * 2_000],
    ids=range(10),
)  # fmt: skip
def test_long_repetition_ends_soon(text: str) -> None:
    assert redact(redact(text)) == redact(text)

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import RecipeError
from edgeloop.personal import luhn
from edgeloop.recipe import Audit
from edgeloop.rows import Row, Span
from finetune.audit.cleaning import Masker, strip, trim
from finetune.audit.personal import find_personal, finders, masked
from tests.audited import findings, rows

ALL = Audit(names=("Jane Doe", "José"), phone_regions=("GB", "US"))

FOUND = {
    "mail to jane.doe+x@mail.example.co.uk.": [("email", "jane.doe+x@mail.example.co.uk")],
    "ünï@exämple.de": [("email", "ünï@exämple.de")],
    "call +44 20 7946 0958 now": [("phone", "+44 20 7946 0958")],
    "call 020 7946 0958 now": [("phone", "020 7946 0958")],
    "card 4111 1111 1111 1111, ok": [("card", "4111 1111 1111 1111")],
    "5500-0000-0000-0004": [("card", "5500-0000-0000-0004")],
    "DE89 3704 0044 0532 0130 00 PLEASE": [("iban", "DE89 3704 0044 0532 0130 00")],
    "to de89370400440532013000.": [("iban", "de89370400440532013000")],
    "JANE DOE and jane.": [("name", "JANE DOE")],
    "ask jos\u00e9 or JOSE\u0301!": [("name", "jos\u00e9"), ("name", "JOSE\u0301")],
}


@pytest.mark.parametrize("text", FOUND)
def test_personal_data_is_found_whole(text: str) -> None:
    items = find_personal(text, finders(ALL))
    assert [(item.kind, text[item.start : item.end]) for item in items] == FOUND[text]


NOT_FOUND = [
    "",
    "user@localhost and @handle",
    "4111 1111 1111 1112",
    "order 9999999999999995",
    "DE89 3704 0044 0532 0130 01",
    "the year 2024-12-31 at 12:30:45",
    "Janet Doerr",
    "0000 0000 0000 0000",
    "3.141592653589793238",
    "@" * 5000,
    "a" * 70_000 + "@",
    "1 " * 20_000,
]


@pytest.mark.parametrize("text", NOT_FOUND, ids=range(len(NOT_FOUND)))
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert find_personal(text, finders(ALL)) == []


def test_only_the_kinds_of_the_recipe_are_looked_for() -> None:
    text = "jane.doe@example.com +44 20 7946 0958"
    assert [i.kind for i in find_personal(text, finders(Audit(pii=("phone",))))] == ["phone"]
    assert find_personal(text, finders(Audit(pii=()))) == []
    national = "020 7946 0958"
    assert find_personal(national, finders(Audit())) == []


def test_an_unknown_region_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"phone_regions: XX.*GB"):
        finders(Audit(phone_regions=("GB", "XX")))


def test_a_finding_shows_the_shape_and_never_the_value() -> None:
    row = Row(id="p", text="hi", text_pair="me@example.org", negatives=("4111111111111111",))
    found = findings("pii", {"train": [*rows(["nothing"]), row]})
    assert found["pii-email"].details == (
        {"row": "p", "split": "train", "masked": "m*@*******.***"},
    )
    assert set(found) == {"pii-email", "pii-card"}
    assert "1111" not in str(found)
    assert found["pii-card"].fix == "mask"


@given(st.text(min_size=1, max_size=40))
def test_a_shape_keeps_length_and_the_first_character_alone(value: str) -> None:
    shape = masked(value)
    assert len(shape) == len(value)
    assert shape[0] == value[0]
    assert not any(character.isalnum() for character in shape[1:])


@given(st.text(string.digits, min_size=12, max_size=18))
def test_one_check_digit_of_ten_is_right_and_a_changed_digit_is_noticed(digits: str) -> None:
    right = [check for check in string.digits if luhn(digits + check)]
    assert len(right) == 1
    changed = str((int(digits[0]) + 1) % 10) + digits[1:]
    assert not luhn(changed + right[0])


def test_masking_keeps_spans_on_what_they_mean() -> None:
    text = "to Ann, ann@example.com in Rome"
    row = Row(
        id="r",
        text=text,
        spans=(Span(3, 6, "who"), Span(8, 23, "mail"), Span(12, 19, "part"), Span(27, 31, "city")),
    )
    after = Masker(finders(Audit()))(row)
    assert after.text == "to Ann, <email> in Rome"
    assert [after.text[s.start : s.end] for s in after.spans] == [
        "Ann",
        "<email>",
        "<email>",
        "Rome",
    ]


@given(st.text("ab ,.\u2003", max_size=12), st.data())
def test_stripping_and_trimming_keep_what_spans_say(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    row = Row(id="r", text=text, spans=(Span(start, end, "x"),) if end > start else ())
    after = trim(strip(row))
    assert strip(after) == after
    assert trim(after) == after
    said = [row.text[s.start : s.end].strip(" ,\u2003") for s in row.spans]
    assert [after.text[s.start : s.end] for s in after.spans] == [words for words in said if words]


def test_a_text_of_white_space_alone_is_not_made_empty() -> None:
    row = Row(id="r", text=" ", text_pair="\t", negatives=(" x ",))
    assert strip(row) == row

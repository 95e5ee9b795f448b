"""What moved: ranked, bounded, and free of what could name a person."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.words import (
    LEAST_RECENT_ROWS,
    MOST_REFERENCE_WORDS,
    MOST_WORDS,
    RECENT_ROWS,
    Recent,
    count_words,
    log_odds_z,
    moved_classes,
    risen_words,
    words_of,
)


def test_words_are_lower_case_and_counted_once() -> None:
    assert words_of("The gas, the GAS! Won't fit; co-op") == {"the", "gas", "won't", "fit", "co-op"}


def test_words_of_other_scripts_are_words() -> None:
    assert words_of("botija de gás, não água") == {"botija", "de", "gás", "não", "água"}


@pytest.mark.parametrize(
    "secret", ["A1234", "anna@example.com", "07700-900123", "ref:x9", "user_7", "£12.50"]
)
def test_words_with_digits_or_an_at_sign_are_left_out_whole(secret: str) -> None:
    assert words_of(f"order {secret} please") == {"order", "please"}


@given(st.text(max_size=300))
def test_no_word_ever_holds_a_digit_or_an_at_sign(text: str) -> None:
    for word in words_of(text):
        assert not any(c.isdecimal() or c == "@" for c in word)
        assert 2 <= len(word) <= 40


def test_a_huge_text_costs_no_more_than_its_beginning() -> None:
    assert words_of("word " * 100_000 + "late") == {"word"}
    assert words_of("x" * 1_000_000) == frozenset()


def test_only_words_of_two_reference_rows_are_kept() -> None:
    counts = count_words(["my gas is low", "gas gas gas", "my name is Zebedee"])
    assert counts == {"gas": 2, "is": 2, "my": 2}


def test_the_commonest_words_are_kept_where_there_are_too_many() -> None:
    letters = "abcdefghijklmnopqrst"
    rare = [f"{a}{b}{c}" for a in letters for b in letters for c in letters]
    texts = [*rare, *rare, "common " * 3, "common", "common"]
    counts = count_words(texts)
    assert len(counts) == MOST_REFERENCE_WORDS < len(rare)
    assert next(iter(counts)) == "common"


@given(st.lists(st.tuples(st.sampled_from(["a b", "b c", "c"]), st.integers(0, 2)), max_size=250))
def test_counts_cover_the_last_rows_only(rows: list[tuple[str, int]]) -> None:
    recent = Recent()
    for text, predicted in rows:
        recent.add(text.replace("a", "aa").replace("b", "bb").replace("c", "cc"), predicted)
    assert len(recent) == min(len(rows), RECENT_ROWS)
    words, classes = recent.count(7)
    last = rows[-7:]
    assert words["bb"] == sum("b" in text for text, _ in last)
    assert classes == Counter(predicted for _, predicted in last)


def test_equal_shares_have_no_score_and_opposite_moves_opposite_ones() -> None:
    assert log_odds_z(10, 100, 10, 100) == pytest.approx(0.0)
    assert log_odds_z(30, 100, 10, 100) == pytest.approx(-log_odds_z(10, 100, 30, 100))


@given(st.integers(0, 39), st.integers(1, 400), st.integers(0, 200))
def test_more_recent_rows_with_a_word_score_higher(
    recent: int, known_rows: int, known: int
) -> None:
    known = min(known, known_rows)
    here = log_odds_z(recent + 1, 50, known, known_rows + 1)
    assert here > log_odds_z(max(recent, 1), 50, known, known_rows + 1) - 1e-9


def test_new_words_come_first_and_steady_ones_not_at_all() -> None:
    known = {"please": 200, "order": 120, "refund": 60}
    recent = {"please": 20, "order": 9, "cylinder": 20, "gas": 8, "refund": 25}
    found = risen_words(recent, 50, known, 500)
    assert [m.name for m in found] == ["cylinder", "refund", "gas"]
    assert found[0].reference_ratio == 0.0
    assert found[0].recent_ratio == pytest.approx(0.4)


def test_a_word_of_too_few_rows_is_never_shown() -> None:
    assert risen_words({"zebedee": LEAST_RECENT_ROWS - 1}, 20, {}, 500) == ()
    assert len(risen_words({"zebedee": LEAST_RECENT_ROWS}, 20, {}, 500)) == 1


def test_a_word_of_every_row_is_shown() -> None:
    (found,) = risen_words({"all": 20}, 20, {"all": 5}, 500)
    assert (found.name, found.recent_ratio) == ("all", 1.0)


def test_a_word_of_every_row_ever_has_not_risen() -> None:
    assert risen_words({"the": 20}, 20, {"the": 500}, 500) == ()


def test_no_more_words_than_a_reader_takes_in() -> None:
    recent = dict.fromkeys(
        ("".join(pair) for pair in zip("abcdefghijklmno", "x" * 15, strict=True)), 15
    )
    assert len(risen_words(recent, 30, {}, 500)) == MOST_WORDS


def test_classes_are_ranked_by_how_far_they_moved_either_way() -> None:
    found = moved_classes({0: 8, 1: 2}, 10, known=(20, 60, 20), labels=("up", "down", "same"))
    assert [m.name for m in found] == ["up", "down", "same"]
    assert found[0].reference_ratio == pytest.approx(0.2)
    assert found[0].recent_ratio == pytest.approx(0.8)
    assert found[2].recent_ratio == 0.0

"""What moved: ranked, bounded, and free of what could name a person."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.words import (
    LEAST_RECENT_ROWS,
    MOST_NGRAMS_PER_ROW,
    MOST_REFERENCE_WORDS,
    MOST_WORDS,
    RECENT_ROWS,
    Recent,
    RecentRow,
    count_ngrams,
    count_words,
    hash_ngrams,
    log_odds_z,
    moved_classes,
    risen_ngrams,
    risen_words,
    word_list,
    words_of,
)

SALT = b"0123456789abcdef"


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


@given(st.lists(st.integers(0, 9), max_size=250), st.integers(0, 250))
def test_the_last_rows_are_kept_newest_first(numbers: list[int], asked: int) -> None:
    recent = Recent()
    rows = [RecentRow(frozenset({"gas"}), frozenset(), n, 0, (float(n),)) for n in numbers]
    for row in rows:
        recent.add(row)
    assert len(recent) == min(len(rows), RECENT_ROWS)
    assert list(recent.rows()) == rows[-RECENT_ROWS:]
    assert recent.last(asked) == rows[::-1][: min(asked, RECENT_ROWS)]


# -- hashed n-grams --------------------------------------------------------------------------------


def test_two_words_in_a_row_are_an_ngram_and_their_order_counts() -> None:
    there, back = (hash_ngrams(words, SALT) for words in (["gas", "bottle"], ["bottle", "gas"]))
    assert len(there) == len(back) == 1
    assert there != back
    assert hash_ngrams(["gas"], SALT) == frozenset()


def test_words_without_spaces_have_ngrams_of_characters() -> None:
    assert len(hash_ngrams(["煤气瓶已经空了"], SALT)) == 5
    assert hash_ngrams(["extraordinary"], SALT) == frozenset()


def test_another_salt_gives_other_hashes_and_the_same_salt_the_same() -> None:
    words = ["my", "gas", "bottle"]
    assert hash_ngrams(words, SALT) == hash_ngrams(words, SALT)
    assert not hash_ngrams(words, SALT) & hash_ngrams(words, b"another")


@given(st.text(max_size=3_000))
def test_a_row_has_a_bounded_number_of_hashes_of_four_bytes(text: str) -> None:
    found = hash_ngrams(word_list(text), SALT)
    assert len(found) <= MOST_NGRAMS_PER_ROW
    assert all(0 <= ngram < 1 << 32 for ngram in found)


def test_ngrams_of_the_reference_are_counted_once_per_row() -> None:
    counts = count_ngrams(["gas bottle gas bottle", "a gas bottle", "one row"], SALT)
    assert counts == {next(iter(hash_ngrams(["gas", "bottle"], SALT))): 2}


def test_risen_ngrams_are_shown_as_hashes_of_three_rows_or_more() -> None:
    found = risen_ngrams({0xAB: 9, 7: LEAST_RECENT_ROWS - 1}, 20, {0xAB: 1}, 500)
    assert [(m.name, m.recent_ratio) for m in found] == [("000000ab", 0.45)]


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

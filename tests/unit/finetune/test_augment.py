"""Noise on training rows."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edgeloop.recipe import Augment
from edgeloop.rows import Row, Span
from finetune.augment import augmented, cased, typo

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
WORDY = st.lists(st.text("aßbİcD1é-", min_size=1, max_size=6), min_size=1, max_size=12)
ALL = Augment(typo_ratio=0.5, casing_ratio=0.5, word_dropout_ratio=0.5)


@st.composite
def rows_with_spans(draw: st.DrawFn) -> Row:
    """Words with gaps of several kinds, and spans that begin and end anywhere in the words."""
    words = draw(WORDY)
    gaps = draw(st.lists(st.sampled_from([" ", "  ", "\t", " \n"]), min_size=len(words)))
    text = "".join(word + gap for word, gap in zip(words, gaps, strict=False))
    solid = [i for i, character in enumerate(text) if not character.isspace()]
    count = draw(st.integers(0, 3))
    ends = sorted(draw(st.sets(st.sampled_from(solid), max_size=2 * count)))
    spans = tuple(Span(a, b + 1, "x") for a, b in zip(ends[::2], ends[1::2], strict=False))
    return Row(draw(st.text(max_size=3)), text, spans=spans)


@given(text=TEXT, seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_off_by_default_the_row_is_the_same_object(text: str, seed: int, epoch: int) -> None:
    row = Row("1", text)
    assert augmented(row, Augment(), seed, epoch) is row


@given(text=TEXT, row_id=st.text(max_size=4), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_noise_is_a_function_of_seed_epoch_and_id(
    text: str, row_id: str, seed: int, epoch: int
) -> None:
    row = Row(row_id, text, ("a",), text_pair="pair", slices=(("channel", "web"),))
    noisy = augmented(row, ALL, seed, epoch)
    assert noisy == augmented(row, ALL, seed, epoch)
    assert noisy.labels == row.labels
    assert (noisy.id, noisy.text_pair, noisy.slices) == (row.id, row.text_pair, row.slices)


@given(text=TEXT)
def test_a_text_with_words_never_becomes_empty(text: str) -> None:
    noisy = augmented(Row("1", text), ALL, 0, 1)
    assert bool(noisy.text.strip()) == bool(text.strip())


@given(row=rows_with_spans(), epoch=st.integers(0, 20))
def test_spans_mark_the_same_words_in_any_casing(row: Row, epoch: int) -> None:
    noisy = augmented(row, ALL, 0, epoch)
    assert len(noisy.spans) == len(row.spans)
    for before, after in zip(row.spans, noisy.spans, strict=True):
        old, new = row.text[before.start : before.end], noisy.text[after.start : after.end]
        assert before.label == after.label
        assert len(old) == len(new)
        assert all(b in (a, a.lower(), a.upper()) for a, b in zip(old, new, strict=True))


@given(row=rows_with_spans(), epoch=st.integers(0, 20))
def test_without_casing_spans_mark_exactly_the_same_text(row: Row, epoch: int) -> None:
    noisy = augmented(row, Augment(typo_ratio=0.5, word_dropout_ratio=0.5), 0, epoch)
    assert [noisy.text[s.start : s.end] for s in noisy.spans] == [
        row.text[s.start : s.end] for s in row.spans
    ]


@given(row=rows_with_spans(), epoch=st.integers(0, 20))
def test_words_left_out_are_the_only_change_of_word_dropout(row: Row, epoch: int) -> None:
    left = iter(row.text.split())
    noisy = augmented(row, Augment(word_dropout_ratio=0.5), 0, epoch)
    assert all(word in left for word in noisy.text.split())


@given(word=st.text(min_size=1, max_size=12), seed=st.integers(0, 99))
def test_a_typing_error_changes_a_word_with_letters_by_one_key(word: str, seed: int) -> None:
    wrong = typo(word, random.Random(seed))
    assert (wrong == word) == (not any(c.isalpha() for c in word))
    assert abs(len(wrong) - len(word)) <= 1
    assert wrong


@given(text=TEXT, seed=st.integers(0, 9))
def test_casing_keeps_every_character_in_its_place(text: str, seed: int) -> None:
    other = cased(text, random.Random(seed))
    assert len(other) == len(text)
    assert all(b in (a, a.lower(), a.upper()) for a, b in zip(text, other, strict=True))


def changed(before: Sequence[str], after: Sequence[str]) -> float:
    return sum(a != b for a, b in zip(before, after, strict=True)) / len(before)


def test_the_ratios_are_what_they_say() -> None:
    """2000 draws: 0.06 is five standard deviations of a share of 0.3."""
    words = ["hello", "there", "water", "bill", "please"] * 400
    row = Row("1", " ".join(words))
    typed = augmented(row, Augment(typo_ratio=0.3), 0, 1).text.split()
    assert abs(changed(words, typed) - 0.3) < 0.06
    left = augmented(row, Augment(word_dropout_ratio=0.3), 0, 1).text.split()
    assert abs(1 - len(left) / len(words) - 0.3) < 0.06
    rows = [Row(str(i), "Hello there") for i in range(2000)]
    in_case = [augmented(row, Augment(casing_ratio=0.3), 0, 1).text for row in rows]
    assert abs(changed([row.text for row in rows], in_case) - 0.3) < 0.06


def test_every_epoch_and_every_row_has_noise_of_its_own() -> None:
    text = "my water bill is far too high this month"
    texts = {augmented(Row("1", text), ALL, 0, epoch).text for epoch in range(20)}
    texts |= {augmented(Row(str(i), text), ALL, 0, 1).text for i in range(20)}
    assert len(texts) > 20

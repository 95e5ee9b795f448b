"""Tags to spans."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.rows import Span
from finetune.tagging import check_spans, split_tag, tagged_text

TOKEN = st.text("abcdé", min_size=1, max_size=4)


def kinds(tags: str) -> list[tuple[str, str]]:
    """(the tokens of each entity, its type); the tokens are a, b, c, ..."""
    names = tags.split()
    text, spans = tagged_text([chr(ord("a") + i) for i in range(len(names))], names)
    return [(text[span.start : span.end], span.label) for span in spans]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-X I-X O", [("b c", "X")]),  # BIO
        ("B-X B-X I-X", [("a", "X"), ("b c", "X")]),
        ("I-X I-X O I-Y", [("a b", "X"), ("d", "Y")]),  # IOB1: B- only between neighbours
        ("I-X B-X I-X", [("a", "X"), ("b c", "X")]),
        ("B-X I-Y I-Y", [("a", "X"), ("b c", "Y")]),  # conlleval: another type begins
        ("B-X I-X E-X S-X S-Y", [("a b c", "X"), ("d", "X"), ("e", "Y")]),  # IOBES
        ("B-X E-X I-X", [("a b", "X"), ("c", "X")]),
        ("B-X L-X U-X O U-X", [("a b", "X"), ("c", "X"), ("e", "X")]),  # BILOU
        ("E-X O E-X", [("a", "X"), ("c", "X")]),
        ("B-geo-loc I-geo-loc", [("a b", "geo-loc")]),
    ],
)
def test_the_usual_schemes_are_understood(tags: str, expected: list[tuple[str, str]]) -> None:
    assert kinds(tags) == expected


@pytest.mark.parametrize("tag", ["", "PER", "B", "B-", "-PER", "X-PER", "o", "BI-PER", "B_PER"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(ValueError, match=f"^{tag}$"):
        split_tag(tag)


ENTITIES = st.lists(st.tuples(st.sampled_from(["", "X", "Y"]), st.lists(TOKEN, min_size=1)))


@given(entities=ENTITIES, scheme=st.sampled_from(["BI", "BIES", "BILU"]))
def test_every_scheme_gives_back_the_entities(
    entities: list[tuple[str, list[str]]], scheme: str
) -> None:
    tokens, tags = [], []
    for kind, words in entities:
        tokens += words
        prefixes = ["B", *"I" * (len(words) - 1)]
        if len(scheme) == 4:
            prefixes[-1] = scheme[2] if len(words) > 1 else scheme[3]
        tags += [f"{prefix}-{kind}" if kind else "O" for prefix in prefixes]
    text, spans = tagged_text(tokens, tags)
    assert text == " ".join(tokens)
    assert [(text[s.start : s.end], s.label) for s in spans] == [
        (" ".join(words), kind) for kind, words in entities if kind
    ]
    said: list[str] = []
    check_spans(text, spans, said.append)
    assert not said


@given(
    bounds=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), min_size=2, max_size=5),
)
def test_spans_are_called_overlapping_where_two_share_a_character(
    bounds: list[tuple[int, int]],
) -> None:
    spans = [Span(a, b, "x") for a, b in bounds if a < b]
    said: list[str] = []
    check_spans("x" * 10, spans, said.append)
    marked = [i for span in spans for i in range(span.start, span.end)]
    assert bool(said) == (len(marked) > len(set(marked)))

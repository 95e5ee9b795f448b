"""Answers as arrays: what is packed comes back, for every task and any length."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.answers import pack, unpack
from edgeloop.runtime import RowOutput


@st.composite
def answers(draw: st.DrawFn) -> list[RowOutput]:
    """Rows of one model: `width` numbers per row or per token, as many tokens as there are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    is_tagger, width, hidden = draw(st.booleans()), draw(st.integers(0, 5)), draw(st.integers(1, 4))
    made = []
    for tokens in draw(st.lists(st.integers(0, 9), min_size=1, max_size=6)):
        shape = (tokens, width) if is_tagger else (width,)
        made.append(
            RowOutput(
                rng.normal(size=shape).astype(np.float32),
                rng.normal(size=hidden).astype(np.float32),
                tuple((int(start), int(start) + 1) for start in rng.integers(0, 99, tokens)),
            )
        )
    return made


@given(answers())
def test_what_is_packed_comes_back_from_a_file(outputs: list[RowOutput]) -> None:
    stream = io.BytesIO()
    np.savez(stream, **pack(outputs))
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as saved:
        found = unpack(saved)
    assert len(found) == len(outputs)
    for one, other in zip(found, outputs, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
        assert one.logits.shape == other.logits.shape
        np.testing.assert_array_equal(one.embedding, other.embedding)
        assert one.offsets == other.offsets


def test_no_answer_is_no_file() -> None:
    with pytest.raises(ValueError, match="concatenate"):
        pack([])

"""What crosses the socket between the server and its processes arrives as it was sent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeloop.runtime import Answered, RowOutput
from serve.worker_messages import (
    Ask,
    Drop,
    Failed,
    Frames,
    FromWorker,
    Hello,
    Load,
    Loaded,
    Told,
    ToWorker,
    pack,
    told,
)

numbers = st.integers(0, 2**31)
words = st.text(st.characters(codec="utf-8"), max_size=50)
texts = words | st.tuples(words, words)
floats = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4),
    elements=st.floats(width=32),
)
answers = st.builds(
    Answered,
    st.builds(
        RowOutput, floats, floats.map(np.ravel), st.lists(st.tuples(numbers, numbers)).map(tuple)
    ),
    numbers,
    st.booleans(),
    st.sampled_from(["model", "first", "second"]),
)
to_worker = st.one_of(
    st.builds(Ask, numbers, numbers, texts, st.booleans(), st.booleans()),
    st.builds(Load, numbers, words, numbers),
    st.builds(Drop, numbers),
)
from_worker = st.one_of(
    st.builds(Hello, numbers),
    st.builds(Loaded, numbers, st.none() | words),
    st.builds(Failed, numbers, st.booleans(), words),
    st.builds(told, numbers, answers, st.floats(0, 1e6), st.floats(0, 1e3)),
)


def read(kind: object, data: bytes, sizes: list[int]) -> list[object]:
    """What comes out of the data in pieces of these sizes, in turns."""
    frames, turn = Frames(kind), 0
    found: list[object] = []
    while data:
        size = sizes[turn % len(sizes)]
        found += frames.read(data[:size])
        data, turn = data[size:], turn + 1
    return found


@given(st.lists(to_worker), st.lists(st.integers(1, 64), min_size=1))
def test_questions_arrive_in_whatever_pieces(messages: list[ToWorker], sizes: list[int]) -> None:
    data = b"".join(map(pack, messages))
    assert read(ToWorker, data, sizes) == messages


@given(st.lists(from_worker), st.lists(st.integers(1, 64), min_size=1))
def test_answers_arrive_in_whatever_pieces(messages: list[FromWorker], sizes: list[int]) -> None:
    data = b"".join(map(pack, messages))
    assert read(FromWorker, data, sizes) == messages


@given(answers)
def test_an_answer_is_the_same_to_the_last_bit(answered: Answered) -> None:
    (message,) = Frames(FromWorker).read(pack(told(7, answered, 1.0, 0.5)))
    assert isinstance(message, Told)
    again, output = message.answered(), answered.output
    assert again.output.logits.tobytes() == output.logits.tobytes()
    assert again.output.logits.shape == output.logits.shape
    assert again.output.embedding.tobytes() == output.embedding.tobytes()
    assert again.output.offsets == output.offsets
    assert (again.tokens, again.truncated, again.stage) == (
        answered.tokens,
        answered.truncated,
        answered.stage,
    )


def test_a_lone_surrogate_is_told_to_who_sends_it() -> None:
    with pytest.raises(UnicodeEncodeError):
        pack(Ask(1, 1, "\ud800", True, False))

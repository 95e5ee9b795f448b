"""The binary tensors of the Open Inference Protocol."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.dialects.oip_binary import (
    JSON_LENGTH,
    read_strings,
    split_body,
    write_numbers,
    write_strings,
)
from serve.refused import Refused
from tests.asked import refusal, status_of

TEXTS = st.lists(st.text(), max_size=8)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=16)


@given(TEXTS)
def test_texts_survive_writing_and_reading(texts: list[str]) -> None:
    assert read_strings(memoryview(write_strings(texts)), len(texts), "text") == texts


@given(TEXTS)
def test_an_element_is_its_length_and_its_bytes(texts: list[str]) -> None:
    expected = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    assert write_strings(texts) == expected


@given(st.binary(max_size=64), st.integers(0, 8))
def test_any_bytes_are_read_or_refused(data: bytes, elements: int) -> None:
    texts: list[str] = []
    status = status_of(lambda: texts.extend(read_strings(memoryview(data), elements, "text")))
    assert status in (200, 400)
    if status == 200:
        assert write_strings(texts) == data
        assert len(texts) == elements


@given(TEXTS.filter(bool), st.integers(1, 40))
def test_a_tensor_that_is_cut_short_is_refused(texts: list[str], cut: int) -> None:
    data = write_strings(texts)
    with pytest.raises(Refused):
        read_strings(memoryview(data[: max(0, len(data) - cut)]), len(texts), "text")


@given(FLOATS)
def test_numbers_survive_writing_and_reading(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(np.frombuffer(write_numbers(array, "FP32"), "<f4"), array)


@given(st.lists(st.booleans(), max_size=8))
def test_flags_are_a_byte_each(values: list[bool]) -> None:
    assert write_numbers(np.array(values, bool), "BOOL") == bytes(values)


@given(st.binary(max_size=32), st.integers(-2, 40))
def test_the_header_says_where_the_json_ends(body: bytes, length: int) -> None:
    headers = {JSON_LENGTH: str(length).encode()}
    if 0 <= length <= len(body):
        head, tail = split_body(body, headers)
        assert (len(head), head + bytes(tail)) == (length, body)
    else:
        assert refusal(lambda: split_body(body, headers)).status == 400


@pytest.mark.parametrize("value", [b"", b"x", b"1.0", b"9" * 5000, b"\xb2"])
def test_a_length_that_is_no_number_is_refused(value: bytes) -> None:
    assert refusal(lambda: split_body(b"{}", {JSON_LENGTH: value})).status == 400


def test_without_the_header_all_is_json() -> None:
    head, tail = split_body(b"{}", {})
    assert (head, len(tail)) == (b"{}", 0)

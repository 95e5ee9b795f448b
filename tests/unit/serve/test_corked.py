"""One write for an answer's head and the first of its body, whatever comes after."""

import asyncio
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from serve.corked import Corked


class Written:
    """A transport that remembers."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.pieces.append(data)

    def close(self) -> None:
        self.closed = True


def corked() -> tuple[Corked, Written]:
    written = Written()
    return Corked(cast("asyncio.Transport", written)), written


def test_head_and_body_go_together_and_later_pieces_as_they_come() -> None:
    answer, written = corked()
    answer.write(b"head")
    assert written.pieces == []
    answer.write(b"body")
    answer.write(b"more")
    assert written.pieces == [b"headbody", b"more"]


def test_a_head_alone_goes_with_the_flush_and_before_the_close() -> None:
    answer, written = corked()
    answer.write(b"head")
    answer.flush()
    answer.flush()
    answer.close()
    assert (written.pieces, written.closed) == ([b"head"], True)
    answer, written = corked()
    answer.write(b"head")
    answer.close()
    assert (written.pieces, written.closed) == ([b"head"], True)


def test_who_waits_for_a_100_is_told_at_once() -> None:
    answer, written = corked()
    answer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert len(written.pieces) == 1
    answer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert len(written.pieces) == 1
    answer.write(b"body")
    assert written.pieces[1:] == [b"HTTP/1.1 200 OK\r\n\r\nbody"]


@given(st.lists(st.binary(min_size=1, max_size=5), max_size=6))
def test_nothing_is_lost_doubled_or_moved(pieces: list[bytes]) -> None:
    answer, written = corked()
    for piece in pieces:
        answer.write(piece)
    answer.flush()
    assert b"".join(written.pieces) == b"".join(pieces)

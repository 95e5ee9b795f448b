"""The store: private, bounded, expiring, right after a crash, and without what was deleted."""

import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeloop.errors import EdgeloopError
from serve.capture.row import CaptureRow, decode_row, encode_row
from serve.capture.store import (
    Store,
    all_rows,
    delete_rows,
    existing_segments,
    list_segments,
    locked,
)

START = 1_750_000_000.0
DAY = 86_400.0


class Clock:
    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(folder: Path, clock: Clock, max_bytes: int = 10_000_000, days: float = 30.0) -> Store:
    store = Store(folder, max_bytes, days * DAY, clock)
    store.prepare()
    store.recover()
    return store


def row(request_id: str, text: str = "my card", index: int = 0) -> CaptureRow:
    return CaptureRow(
        request_id, index, START, "d" * 64, (text,), ("a",), (0.9,), 0.9, False, 0.01, "uniform"
    )


def lines(*request_ids: str, text: str = "my card") -> list[bytes]:
    return [encode_row(row(request_id, text)) for request_id in request_ids]


def ids(folder: Path) -> list[str]:
    return [found.id for found in all_rows(folder)]


ROWS = st.builds(
    CaptureRow,
    id=st.text(max_size=20),
    index=st.integers(0, 31),
    time=st.floats(0.0, 1e10),
    bundle=st.text("0123456789abcdef", max_size=64),
    texts=st.lists(st.text(), min_size=1, max_size=2).map(tuple),
    labels=st.lists(st.text(max_size=5), max_size=3).map(tuple),
    scores=st.lists(st.floats(0.0, 1.0), max_size=3).map(tuple),
    score=st.floats(0.0, 1.0),
    abstained=st.booleans(),
    inclusion_probability=st.floats(0.001, 1.0),
    rule=st.sampled_from(["uniform", "low_confidence", "both"]),
)


@given(ROWS)
def test_a_row_is_one_line_and_comes_back(written: CaptureRow) -> None:
    line = encode_row(written)
    assert line.count(b"\n") == 1
    assert decode_row(line) == written
    assert decode_row(line[: len(line) // 2]) is None
    assert decode_row(line[:-1]) is None


def test_only_its_owner_reads_it(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "deep" / "rows"
    opened(folder, clock).append(lines("1"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rows_come_back_in_order_over_segments_and_restarts(tmp_path: Path, clock: Clock) -> None:
    expected = []
    for start in range(3):
        store = opened(tmp_path, clock, max_bytes=1_000_000)
        for i in range(50):
            names = [f"{start}-{i}-{j}" for j in range(20)]
            assert store.append(lines(*names)) == 20
            expected += names
            clock.seconds += 1.0
    assert ids(tmp_path) == expected
    assert len(list_segments(tmp_path)) > 3


def test_the_bytes_keep_to_their_limit_and_the_oldest_goes(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, max_bytes=1_000_000)
    names = [str(i) for i in range(400)]
    for name in names:
        store.append(lines(name, text="x" * 9_000))
        assert sum(s.size_bytes for s in list_segments(tmp_path)) <= 1_000_000
    left = ids(tmp_path)
    assert left == names[-len(left) :]
    assert len(left) > 90


def test_a_row_that_no_segment_holds_is_left_out(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, max_bytes=1_000_000)
    huge = lines("huge", text="x" * 200_000)
    assert store.append([*lines("a"), *huge, *lines("b")]) == 2
    assert ids(tmp_path) == ["a", "b"]


def test_no_row_outlives_its_time(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, days=30.0)
    written: dict[str, float] = {}
    for day in range(80):
        written[str(day)] = clock.seconds
        store.append(lines(str(day)))
        clock.seconds += DAY / 2
        store.expire()
        ages = [clock.seconds - written[name] for name in ids(tmp_path)]
        assert max(ages) < 30 * DAY
        assert len(ages) >= min(day + 1, 55)


def test_a_clock_that_is_put_back_neither_mixes_nor_loses_rows(
    tmp_path: Path, clock: Clock
) -> None:
    store = opened(tmp_path, clock)
    store.append(lines("1"))
    clock.seconds -= 3600.0
    store.append(lines("2"))
    store.append(lines("3"))
    assert ids(tmp_path) == ["1", "2", "3"]


# -- crashes and full disks --------------------------------------------------------------------


@settings(max_examples=60)
@given(data=st.data())
def test_a_cut_off_line_is_skipped_and_set_right(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, clock = tmp_path_factory.mktemp("cut"), Clock()
    opened(folder, clock).append(lines("1", "2", "3"))
    (segment,) = list_segments(folder)
    size = data.draw(st.integers(0, segment.size_bytes))
    os.truncate(segment.path, size)
    whole = segment.path.read_bytes().count(b"\n")
    assert ids(folder) == ["1", "2", "3"][:whole]
    store = opened(folder, clock)
    assert ids(folder) == ["1", "2", "3"][:whole]
    store.append(lines("4"))
    assert ids(folder) == [*["1", "2", "3"][:whole], "4"]
    assert all(decode_row(line) for line in segment.path.read_bytes().splitlines(keepends=True))


def test_a_line_that_was_cut_off_meanwhile_does_not_spoil_the_next(
    tmp_path: Path, clock: Clock
) -> None:
    store = opened(tmp_path, clock)
    store.append(lines("1"))
    (segment,) = list_segments(tmp_path)
    with segment.path.open("ab") as stream:
        stream.write(b'{"id": "torn' + b"x" * 100_000)
    store.append(lines("2"))
    assert ids(tmp_path) == ["1", "2"]


@contextmanager
def file_limit(size_bytes: int) -> Iterator[None]:
    """What a full disk does: a part is written, then nothing."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_of_a_row(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock)
    store.append(lines("1"))
    (segment,) = list_segments(tmp_path)
    before = segment.path.read_bytes()
    with file_limit(segment.size_bytes + 150), pytest.raises(OSError, match="too large"):
        store.append(lines("2", "3"))
    assert segment.path.read_bytes() == before
    store.append(lines("4"))
    assert ids(tmp_path) == ["1", "4"]


def test_what_a_crashed_deletion_left_aside_goes(tmp_path: Path, clock: Clock) -> None:
    opened(tmp_path, clock).append(lines("1"))
    (segment,) = list_segments(tmp_path)
    aside = tmp_path / f".{segment.path.name}.123.456"
    aside.write_bytes(b"half")
    other = tmp_path / "notes.txt"
    other.write_text("not ours", encoding="utf-8")
    opened(tmp_path, clock)
    assert not aside.exists()
    assert other.exists()
    assert ids(tmp_path) == ["1"]


def test_a_folder_that_went_away_is_made_again(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path / "rows", clock)
    for path in (tmp_path / "rows").iterdir():
        path.unlink()
    (tmp_path / "rows").rmdir()
    store.append(lines("1"))
    assert ids(tmp_path / "rows") == ["1"]


def test_a_link_in_a_segments_place_is_not_followed(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path / "rows", clock)
    store.append(lines("1"))
    (segment,) = list_segments(tmp_path / "rows")
    victim = tmp_path / "victim"
    segment.path.rename(victim)
    segment.path.symlink_to(victim)
    before = victim.read_bytes()
    with pytest.raises(OSError, match="symbolic"):
        store.append(lines("2"))
    assert victim.read_bytes() == before


# -- deletion ----------------------------------------------------------------------------------


def test_a_requests_rows_are_deleted_wherever_they_are(tmp_path: Path, clock: Clock) -> None:
    store = opened(tmp_path, clock, days=1.0)
    for _ in range(4):
        store.append(lines("keep", "gone", "gone too"))
        clock.seconds += 4000.0
    store.append(lines("gone"))
    segments = len(list_segments(tmp_path))
    assert delete_rows(tmp_path, "gone") == 5
    assert ids(tmp_path) == ["keep", "gone too"] * 4
    assert delete_rows(tmp_path, "gone") == 0
    assert len(list_segments(tmp_path)) == segments - 1
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.append(lines("after"))
    assert ids(tmp_path)[-1] == "after"


def test_rows_that_are_written_meanwhile_are_not_lost(tmp_path: Path, clock: Clock) -> None:
    store, count = opened(tmp_path, clock), 300
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for i in range(count):
                store.append(lines(f"keep-{i}", "gone"))
        except BaseException as problem:
            errors.append(problem)

    writer = threading.Thread(target=write)
    writer.start()
    deleted = 0
    while writer.is_alive():
        deleted += delete_rows(tmp_path, "gone")
    writer.join()
    deleted += delete_rows(tmp_path, "gone")
    assert errors == []
    assert ids(tmp_path) == [f"keep-{i}" for i in range(count)]
    assert deleted == count


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(EdgeloopError, match="no folder of captured rows"):
        existing_segments(tmp_path / "none")
    with pytest.raises(EdgeloopError, match="no folder of captured rows"):
        delete_rows(tmp_path / "none", "1")


def test_the_lock_is_one_ones(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]

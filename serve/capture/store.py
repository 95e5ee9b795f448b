"""Captured rows on the disk: segments of JSON lines that are only appended to.

    FOLDER/rows-<UTC, ms>.jsonl     mode 0600 in a folder of mode 0700; the name says since when
    FOLDER/.lock                    held while rows are appended, deleted or expire

The oldest segment goes where the bytes would pass their limit, and as a whole when its first row
is older than the time to live. A line that a crash has cut off is skipped by readers and removed
by the next writer. Encryption at rest is the volume's job.
"""

import fcntl
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edgeloop.errors import EdgeloopError
from edgeloop.rundir import write_atomic
from serve.capture.row import CaptureRow, decode_row

SEGMENT = re.compile(r"rows-(\d{8}T\d{9})Z\.jsonl")
STAMP = "%Y%m%dT%H%M%S"
ASIDE = ".rows-*.jsonl.*"
LOCK = ".lock"
FOLDER_MODE, FILE_MODE = 0o700, 0o600
SEGMENTS_PER_QUOTA = 10
MOST_SEGMENT_BYTES = 16 * 1024 * 1024
# A segment takes rows for so long at most: what expires with its first row must not be much more.
SEGMENTS_PER_TTL = 30
MOST_SEGMENT_SECONDS = 86_400.0
TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Segment:
    """One file of rows; `started`: Unix seconds of its first row."""

    path: Path
    started: float
    size_bytes: int


class Store:
    """The writer's side. One process at a time writes to a folder."""

    def __init__(
        self, folder: Path, max_bytes: int, ttl_seconds: float, now: Callable[[], float]
    ) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._ttl_seconds = ttl_seconds
        self._now = now
        self._segment_bytes = min(MOST_SEGMENT_BYTES, max_bytes // SEGMENTS_PER_QUOTA)
        self._segment_seconds = min(MOST_SEGMENT_SECONDS, ttl_seconds / SEGMENTS_PER_TTL)

    def prepare(self) -> None:
        """Make the folder. Raises OSError."""
        self.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        self.folder.chmod(FOLDER_MODE)

    def recover(self) -> None:
        """Remove what a crash has left (cut off lines, files aside) and expired rows. Raises
        OSError."""
        with locked(self.folder):
            for aside in self.folder.glob(ASIDE):
                aside.unlink(missing_ok=True)
            for segment in list_segments(self.folder):
                with _opened(segment.path) as descriptor:
                    _cut_torn_line(descriptor)
        self.expire()

    def append(self, lines: Sequence[bytes]) -> int:
        """Write the lines that are not too large; returns how many. Raises OSError: then the lines
        of the last segment that was begun or gone on with are not there, not even in part."""
        if not self.folder.is_dir():
            self.prepare()
        fitting = [line for line in lines if len(line) <= self._segment_bytes]
        with locked(self.folder):
            segments = list_segments(self.folder)
            for group in self._grouped(fitting, segments):
                size_bytes = sum(map(len, group))
                self._make_room(segments, size_bytes)
                if not segments or not self._fits(segments[-1], size_bytes):
                    segments.append(self._new_segment(segments))
                current = segments[-1]
                written_bytes = _write(current.path, b"".join(group))
                segments[-1] = Segment(current.path, current.started, written_bytes)
        return len(fitting)

    def expire(self) -> None:
        """Delete segments whose first row is older than the time to live. Raises OSError."""
        with locked(self.folder):
            for segment in list_segments(self.folder):
                if segment.started + self._ttl_seconds <= self._now():
                    segment.path.unlink(missing_ok=True)

    def _grouped(self, lines: Sequence[bytes], segments: list[Segment]) -> Iterator[list[bytes]]:
        """Lines that go into one segment together."""
        room_bytes = self._segment_bytes - (segments[-1].size_bytes if segments else 0)
        group: list[bytes] = []
        for line in lines:
            if len(line) > room_bytes and group:
                yield group
                group = []
            if len(line) > room_bytes:
                room_bytes = self._segment_bytes
            group.append(line)
            room_bytes -= len(line)
        if group:
            yield group

    def _fits(self, segment: Segment, size_bytes: int) -> bool:
        is_young = 0.0 <= self._now() - segment.started < self._segment_seconds
        return is_young and segment.size_bytes + size_bytes <= self._segment_bytes

    def _make_room(self, segments: list[Segment], size_bytes: int) -> None:
        """Delete the oldest segments until so many more bytes keep to the limit."""
        while segments and sum(s.size_bytes for s in segments) + size_bytes > self._max_bytes:
            segments.pop(0).path.unlink(missing_ok=True)

    def _new_segment(self, segments: list[Segment]) -> Segment:
        """Its name comes after every other's, even where the clock was put back."""
        at = datetime.fromtimestamp(self._now(), UTC)
        if segments:
            last = datetime.fromtimestamp(segments[-1].started, UTC)
            at = max(at, last + timedelta(milliseconds=1))
        stamp = f"{at.strftime(STAMP)}{at.microsecond // 1000:03d}"
        return Segment(self.folder / f"rows-{stamp}Z.jsonl", _started(stamp), 0)


def list_segments(folder: Path) -> list[Segment]:
    """A folder's segments, oldest first. Raises OSError."""
    found = []
    for entry in os.scandir(folder):
        match = SEGMENT.fullmatch(entry.name)
        if match is not None and entry.is_file(follow_symlinks=False):
            size_bytes = entry.stat(follow_symlinks=False).st_size
            found.append(Segment(Path(entry.path), _started(match[1]), size_bytes))
    return sorted(found, key=lambda segment: segment.path.name)


def read_rows(path: Path) -> Iterator[CaptureRow]:
    """A segment's rows; lines that are none are passed over. Raises OSError."""
    with path.open("rb") as stream:
        for line in stream:
            row = decode_row(line)
            if row is not None:
                yield row


def all_rows(folder: Path) -> Iterator[CaptureRow]:
    """A folder's rows, oldest segment first. Raises EdgeloopError, OSError."""
    for segment in existing_segments(folder):
        try:
            yield from read_rows(segment.path)
        except FileNotFoundError:  # expired meanwhile
            continue


def existing_segments(folder: Path) -> list[Segment]:
    """A folder's segments. Raises EdgeloopError where there is no such folder."""
    if not folder.is_dir():
        raise EdgeloopError(f"{folder}: is no folder of captured rows; capture.folder names it")
    return list_segments(folder)


def delete_rows(folder: Path, request_id: str) -> int:
    """Delete a request's rows; returns how many there were. A server that writes to the folder
    waits meanwhile, its requests do not. Raises EdgeloopError, OSError."""
    existing_segments(folder)
    deleted = 0
    with locked(folder):
        for segment in list_segments(folder):
            rows = [(line, decode_row(line)) for line in segment.path.read_bytes().splitlines(True)]
            kept = [line for line, row in rows if row is not None and row.id != request_id]
            gone = sum(1 for _, row in rows if row is not None) - len(kept)
            if gone and kept:
                write_atomic(segment.path, b"".join(kept), FILE_MODE)
            elif gone:
                segment.path.unlink()
            deleted += gone
    return deleted


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one who changes the folder's rows; waits for another. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(folder / LOCK, flags, FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes) -> int:
    """Append all or nothing; returns the file's size. Raises OSError."""
    with _opened(path) as descriptor:
        before = _cut_torn_line(descriptor)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        return before + len(data)


def _cut_torn_line(descriptor: int) -> int:
    """Cut the file behind its last whole line; returns its size."""
    size_bytes = end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - TAIL_BYTES)
        last = os.pread(descriptor, end - start, start).rfind(b"\n")
        if last >= 0:
            end = start + last + 1
            break
        end = start
    if end < size_bytes:
        os.ftruncate(descriptor, end)
    return end


def _started(stamp: str) -> float:
    seconds = datetime.strptime(stamp[:-3], STAMP).replace(tzinfo=UTC).timestamp()
    return seconds + int(stamp[-3:]) / 1000.0

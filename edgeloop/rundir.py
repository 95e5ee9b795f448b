"""Run folders: a stage works in a folder aside, writes its record last, and is renamed into place.

runs/<recipe>-<UTC yyyymmddThhmmssZ>-<sha8>/
    inputs.json          what the run depends on: the folder is found again by its digest
    recipe.json          the resolved recipe
    .lock                held by the process that works in the folder
    dataset/ adapter/ merged/ candidates/ reference/ bundle/     complete stages
    .work-<stage>/       a stage under way; kept after a kill so that it can be resumed
    bundle-<sha8>/       a bundle made when bundle/ held another or a damaged one
    .damaged-<name>-*/   what was found damaged, moved aside
"""

import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from edgeloop.errors import EdgeloopError
from edgeloop.records import FileEntry, StageRecord

RECORD_NAME = "record.json"
INPUTS_NAME = ".inputs"
LOCK_NAME = ".lock"
CHUNK_BYTES = 1 << 20

R = TypeVar("R", bound=StageRecord)


def digest_file(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 over plain values as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def list_files(folder: Path, leave_out: Iterable[str] = (RECORD_NAME,)) -> tuple[FileEntry, ...]:
    """Every visible file below a folder with size and SHA-256, by relative path."""
    skipped = set(leave_out)
    entries = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if relative.as_posix() in skipped or any(part.startswith(".") for part in relative.parts):
            continue
        entries.append(
            FileEntry(path=relative.as_posix(), bytes=path.stat().st_size, sha256=digest_file(path))
        )
    return tuple(entries)


def digest_entries(entries: Iterable[FileEntry]) -> str:
    """One digest for a set of files: paths and contents, not times or places."""
    return digest_of(sorted((e.path, e.sha256) for e in entries))


def sync_folder(folder: Path) -> None:
    """Make a rename inside the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Flush every file below the folder to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def write_atomic(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write aside, flush, rename: readers see the old bytes or the new ones, never a part. `mode`:
    the new file's permissions, less the umask."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(aside, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    sync_folder(path.parent)


class RunDir:
    """One run's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, stage: str) -> Path:
        """Where the complete stage lies."""
        return self.root / stage

    def record(self, stage: str, record_type: type[R], inputs_digest: str) -> R | None:
        """The stage's record where it is complete and was made from these inputs."""
        return _read_record(self.folder(stage), record_type, inputs_digest)

    def run_stage(
        self,
        stage: str,
        record_type: type[R],
        inputs: Mapping[str, Any],
        work: Callable[[Path, str], R],
    ) -> R:
        """Do the stage, or skip it where its record says that it is done.

        `inputs` is all that the result depends on. `work(folder, inputs_digest)` fills the folder
        and returns the record. After a kill the folder of the same inputs is handed to it again.
        """
        inputs_digest = digest_of(dict(inputs))
        self._put_back(stage)
        done = self.record(stage, record_type, inputs_digest)
        if done is not None:
            return done
        folder = self._work_folder(stage, inputs_digest)
        record = _read_record(folder, record_type, inputs_digest)
        if record is None:
            record = work(folder, inputs_digest)
            sync_files(folder)
            write_atomic(folder / RECORD_NAME, record.to_bytes())
        self._publish(stage, folder)
        return record

    def _work_folder(self, stage: str, inputs_digest: str) -> Path:
        folder = self.root / f".work-{stage}"
        mark = folder / INPUTS_NAME
        expected = inputs_digest.encode()
        if folder.exists() and not (mark.exists() and mark.read_bytes() == expected):
            mark.unlink(missing_ok=True)  # first: a half-deleted folder must not be taken up again
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(expected)
        return folder

    def _publish(self, stage: str, folder: Path) -> None:
        """Swap the complete folder in. A folder that is not empty cannot be replaced in one step:
        the old result steps aside first, and `_put_back` undoes that after a kill."""
        final, stale = self.folder(stage), self._stale(stage)
        shutil.rmtree(stale, ignore_errors=True)
        if final.exists():
            os.replace(final, stale)
        os.replace(folder, final)
        sync_folder(self.root)
        (final / INPUTS_NAME).unlink(missing_ok=True)
        shutil.rmtree(stale, ignore_errors=True)

    def _put_back(self, stage: str) -> None:
        """After a kill inside `_publish`: the old result returns, or goes where the new one is."""
        final, stale = self.folder(stage), self._stale(stage)
        if stale.exists() and not final.exists():
            os.replace(stale, final)
        shutil.rmtree(stale, ignore_errors=True)

    def _stale(self, stage: str) -> Path:
        return self.root / f".stale-{stage}"


def _read_record(folder: Path, record_type: type[R], inputs_digest: str) -> R | None:
    path = folder / RECORD_NAME
    if not path.exists():
        return None
    try:
        record = record_type.read(path)
    except EdgeloopError:
        return None  # damaged, or of an older edgeloop: do the stage again
    return record if record.inputs_digest == inputs_digest else None


def open_run(home: Path, name: str, inputs: Mapping[str, Any]) -> RunDir:
    """The run folder of exactly these inputs: the one that was begun before, or a new one."""
    runs = home / "runs"
    digest = digest_of(dict(inputs))
    for candidate in sorted(runs.glob(f"{name}-*-{digest[:8]}")):
        if _digest_of_file(candidate / "inputs.json") == digest:
            return RunDir(candidate)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    root = runs / f"{name}-{stamp}-{digest[:8]}"
    root.mkdir(parents=True, exist_ok=True)
    write_atomic(root / "inputs.json", json.dumps(dict(inputs), sort_keys=True, indent=2).encode())
    return RunDir(root)


def _digest_of_file(path: Path) -> str | None:
    try:
        return digest_of(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None  # a kill came before it was written, or it is damaged: not ours to go on with


@contextmanager
def work_in_run(home: Path, name: str, inputs: Mapping[str, Any]) -> Iterator[RunDir]:
    """`open_run`, for one process at a time; the kernel gives the lock back on a kill.

    Raises EdgeloopError where another process works in the folder.
    """
    descriptor = None
    while descriptor is None:
        run = open_run(home, name, inputs)
        descriptor = _lock(run.root)
    try:
        yield run
    finally:
        os.close(descriptor)


def discard_run(run: RunDir) -> None:
    """Remove a run folder. Renamed first: nobody opens or locks what is half removed."""
    gone = run.root.with_name(f".gone-{run.root.name}-{os.getpid()}")
    os.replace(run.root, gone)
    shutil.rmtree(gone)


def _lock(root: Path) -> int | None:
    """The locked file's descriptor; None where the folder was discarded in the meantime."""
    path = root / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except FileNotFoundError:
        pass
    except BlockingIOError:
        os.close(descriptor)
        raise EdgeloopError(
            f"another process is working in {root}; wait for it or stop it"
        ) from None
    os.close(descriptor)
    return None

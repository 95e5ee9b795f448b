"""What a server remembers on disk: the drift monitor's state, and which bundle it served.

    .lock                held by the server that uses the folder
    served.json          the bundle that answers, and the one that the command line named
    drift-<digest>.bin   the drift state of one bundle: magic, CRC-32, MessagePack

Every file is written aside and renamed. One that is damaged or of another bundle is renamed
*.damaged: the server starts without it. The folder is its owner's alone (mode 0700): a drift state
holds words of recent texts.
"""

import fcntl
import logging
import os
import struct
import zlib
from pathlib import Path

import msgspec

from edgeloop.errors import EdgeloopError, RecipeError
from edgeloop.observer import Observer
from edgeloop.record import Record
from edgeloop.records import Verdict
from edgeloop.rundir import write_atomic

logger = logging.getLogger(__name__)

SERVED = "served.json"
LOCK = ".lock"
SCHEMA_VERSION = 1
HEAD = struct.Struct("<4sI")
MAGIC = b"ELS1"
DIGEST_CHARACTERS = 16


class Served(Record):
    """Which bundle answered last. `named_digest`: of the bundle that the command line named then;
    `watched`: the stamp of the watched folder that was acted upon last; `refused`: the bundles that
    were rolled back from a trial."""

    schema_version: int
    digest: str
    path: Path
    named_digest: str
    watched: str | None = None
    refused: tuple[str, ...] = ()


class _Drift(msgspec.Struct, array_like=True):
    schema_version: int
    digest: str
    observer: bytes
    verdict: bytes | None


class StateFolder:
    """The folder of one server. `seconds`: between two saves of a drift state."""

    def __init__(self, root: Path, seconds: float) -> None:
        """Raises RecipeError where the folder cannot be written or another server uses it."""
        self.root = root
        self.seconds = seconds
        try:
            root.mkdir(parents=True, exist_ok=True)
            root.chmod(0o700)
            self._lock = (root / LOCK).open("ab")
        except OSError as problem:
            raise RecipeError(
                f"{root}: state cannot be kept here ({problem}); name another folder as `state` "
                "in serve.yaml, or leave it out"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RecipeError(
                f"{root}: another server keeps its state here; give each its own `state` folder"
            ) from None

    def close(self) -> None:
        """Let another server use the folder."""
        self._lock.close()

    def drift(self, digest: str) -> "DriftFile":
        """The place of a bundle's drift state."""
        return DriftFile(self, digest)

    def keep_only(self, digests: set[str]) -> None:
        """Delete the drift states of bundles that are no longer loaded."""
        kept = {self.drift(digest).path for digest in digests}
        for path in self.root.glob("drift-*.bin"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def remember(self, served: Served) -> None:
        """Keep which bundle answers. A disk that is full costs the memory, not the server."""
        try:
            write_atomic(self.root / SERVED, served.to_bytes())
        except OSError as problem:
            logger.error("event=state_not_saved file=%s problem=%s", SERVED, problem)

    def remembered(self) -> Served | None:
        """What `remember` kept; None where there is nothing sound."""
        path = self.root / SERVED
        if not path.exists():
            return None
        try:
            served = Served.read(path)
            if served.schema_version != SCHEMA_VERSION:
                raise EdgeloopError(f"schema_version {served.schema_version} is unknown")
        except EdgeloopError as problem:
            set_aside(path, str(problem))
            return None
        return served


class DriftFile:
    """Saves and restores an observer of one bundle."""

    def __init__(self, folder: StateFolder, digest: str) -> None:
        self.path = folder.root / f"drift-{digest[:DIGEST_CHARACTERS]}.bin"
        self._folder = folder
        self._digest = digest

    @property
    def seconds(self) -> float:
        """Between two saves."""
        return self._folder.seconds

    def save(self, observer: Observer, verdict: Verdict | None) -> None:
        """Write the observer's state. Raises OSError."""
        said = None if verdict is None else verdict.model_dump_json().encode()
        body = msgspec.msgpack.encode(_Drift(SCHEMA_VERSION, self._digest, observer.state(), said))
        write_atomic(self.path, HEAD.pack(MAGIC, zlib.crc32(body)) + body)

    def restore(self, observer: Observer) -> Verdict | None:
        """Let a new observer go on from the file, where there is one; the verdict that it had
        reached. A file that cannot be used is set aside, the observer then starts anew."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            logger.error("event=state_not_read path=%s problem=%s", self.path, problem)
            return None
        try:
            state = self._decode(data)
            verdict = None if state.verdict is None else _verdict(state.verdict)
            observer.restore(state.observer)
        except (EdgeloopError, ValueError, msgspec.MsgspecError) as problem:
            set_aside(self.path, str(problem))
            return None
        logger.info("event=state_restored bundle=%s", self._digest[:12])
        return verdict

    def _decode(self, data: bytes) -> _Drift:
        body = data[HEAD.size :]
        if data[: HEAD.size] != HEAD.pack(MAGIC, zlib.crc32(body)):
            raise ValueError(f"{len(data)} bytes are no drift state or a damaged one")
        state = msgspec.msgpack.decode(body, type=_Drift)
        if (state.schema_version, state.digest) != (SCHEMA_VERSION, self._digest):
            raise ValueError(
                f"a drift state of schema {state.schema_version} and bundle {state.digest[:12]}, "
                f"needed is schema {SCHEMA_VERSION} and bundle {self._digest[:12]}"
            )
        return state


def _verdict(data: bytes) -> Verdict:
    return Verdict.model_validate_json(data)


def set_aside(path: Path, problem: str) -> None:
    """Rename a file that cannot be used, so that a person can look at it, and say so."""
    aside = path.with_name(f"{path.name}.damaged")
    logger.error("event=state_set_aside path=%s problem=%s", aside, problem)
    try:
        os.replace(path, aside)
    except OSError as failure:
        logger.error("event=state_not_set_aside path=%s problem=%s", path, failure)

"""The file of API keys: names, scopes, limits and hashes, never a key.

A key is `el_<id>_<secret>`: the id (32 bits, public, finds the entry) and 256 random bits. What is
kept is their plain SHA-256: a salt and a slow hash protect passwords, of which an attacker can
try the likely ones; of 2**256 equally likely secrets none is worth trying, and a request's check
has to cost microseconds. File: JSON, mode 0600, written aside and renamed.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError

from edgeloop.document import explain
from edgeloop.errors import EdgeloopError, RecipeError
from edgeloop.record import Record
from edgeloop.rundir import write_atomic

KeyScope = Literal["predict", "feedback", "metrics", "admin"]
SCOPES: tuple[KeyScope, ...] = get_args(KeyScope)
PREFIX = "el"
ID_BYTES, SECRET_BYTES = 4, 32
PRIVATE_MODE = 0o600
MOST_DAYS = 36_500
MOST_BURST = 1_000_000
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Now = Callable[[], datetime]


class KeyEntry(Record):
    """One key. `sha256`: of the whole key's ASCII, hex; `requests_per_second`: null for no limit;
    `burst`: how many may come at once; `expires_at`: null for never."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[KeyScope, ...] = Field(min_length=1)
    requests_per_second: float | None = Field(gt=0.0, le=1e6)
    burst: int = Field(ge=1, le=MOST_BURST)
    created_at: datetime
    expires_at: datetime | None


class KeyFile(Record):
    """The whole file."""

    schema_version: Literal[1] = 1
    keys: tuple[KeyEntry, ...] = ()


def utc_now() -> datetime:
    """The time, to the second, with its zone."""
    return datetime.now(UTC).replace(microsecond=0)


def digest(key: str) -> bytes:
    """SHA-256 of a whole key, 32 bytes."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_keys(path: Path) -> KeyFile:
    """Raises RecipeError where the file is not there, no such file, or others may write it."""
    try:
        if path.stat().st_mode & 0o022:
            raise RecipeError(f"{path}: others may write it; run chmod 600 {path}")
        found = KeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise RecipeError(
            f"{path}: no such file of keys; edgeloop keys add --file {path} NAME makes one"
        ) from None
    except OSError as problem:
        raise RecipeError(f"{path}: cannot be read ({problem.strerror})") from None
    except ValidationError as problem:
        raise RecipeError("\n".join(_say_without_values(path, problem))) from None
    ids = [entry.id for entry in found.keys]
    if len(set(ids)) != len(ids):
        raise RecipeError(f"{path}: two keys have the same id; revoke one of them")
    for entry in found.keys:
        if None in (entry.created_at.tzinfo, (entry.expires_at or entry.created_at).tzinfo):
            raise RecipeError(f"{path}: key {entry.name}: its times need a zone, such as Z")
    return found


def add_key(
    path: Path,
    name: str,
    scopes: tuple[KeyScope, ...],
    requests_per_second: float | None = None,
    burst: int | None = None,
    expires_days: float | None = None,
    now: Now = utc_now,
) -> str:
    """Make a key, and the file where there is none. Returns the key, which is kept nowhere.

    `burst`: default one second's worth of requests, at least 1.
    Raises RecipeError: name taken or no name, scope unknown, limit not above 0.
    """
    if expires_days is not None and not 0.0 < expires_days <= MOST_DAYS:
        raise RecipeError(f"expires in {expires_days:g} days: a number above 0 up to {MOST_DAYS}")
    key_id = secrets.token_hex(ID_BYTES)
    key = f"{PREFIX}_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"
    rate = requests_per_second or 1.0
    at_once = burst if burst is not None else round(rate) if 1.0 < rate < MOST_BURST else 1
    created = now()
    try:
        entry = KeyEntry(
            id=key_id,
            name=name,
            sha256=digest(key).hex(),
            scopes=scopes,
            requests_per_second=requests_per_second,
            burst=at_once,
            created_at=created,
            expires_at=None if expires_days is None else created + timedelta(days=expires_days),
        )
    except ValidationError as problem:
        raise RecipeError("\n".join(explain(path, problem, KeyEntry))) from None
    with _alone(path):
        known = read_keys(path) if path.exists() else KeyFile()
        if any(other.name == name for other in known.keys):
            raise RecipeError(f"{path}: there is a key {name} already; take another name")
        _write(path, KeyFile(keys=(*known.keys, entry)))
    return key


def revoke_key(path: Path, name: str) -> None:
    """Remove a key by name or id. Raises RecipeError where there is none."""
    with _alone(path):
        known = read_keys(path)
        left = tuple(entry for entry in known.keys if name not in (entry.name, entry.id))
        if len(left) == len(known.keys):
            names = ", ".join(entry.name for entry in known.keys) or "none"
            raise RecipeError(f"{path}: there is no key {name}; there are: {names}")
        _write(path, KeyFile(keys=left))


def key_id(presented: str) -> str:
    """The id that a presented key names; "" where it has another shape."""
    parts = presented.split("_", 2)
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX else ""


def _say_without_values(path: Path, problem: ValidationError) -> list[str]:
    """What is wrong and where, but not with what: it may be a hash, or a key in the wrong place."""
    return [
        f"{path}: {'.'.join(map(str, error['loc'])) or 'file'}: {error['msg']}"
        for error in problem.errors(include_url=False, include_input=False, include_context=False)
    ]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two commands at once must not lose a key: the folder is locked, no file is left behind."""
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise RecipeError(f"{path.parent}: no such folder ({problem.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, keys: KeyFile) -> None:
    try:
        write_atomic(path, keys.to_bytes(), PRIVATE_MODE)
    except OSError as problem:
        raise EdgeloopError(f"{path}: cannot be written ({problem.strerror})") from None

"""Who may ask: API keys, what each is good for, and how often. Deny by default: every route but
the health routes needs a key once a file of keys is configured.

A check runs on the event loop (a few microseconds, no lock); the file is read again by another
thread, which replaces the whole table at once.
"""

import hmac
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from starlette.types import Scope

from edgeloop.errors import EdgeloopError
from edgeloop.section import Section
from serve.keyfile import KeyEntry, KeyScope, digest, key_id, read_keys
from serve.operator_path import OperatorPath
from serve.refused import Refused, retry_after

logger = logging.getLogger(__name__)

OPEN_ROUTES = frozenset({"/health", "/v2/health/live", "/v2/health/ready"})
ROUTE_SCOPES: dict[str, KeyScope] = {
    "/feedback": "feedback",
    "/metrics": "metrics",
    "/drift": "metrics",
    "/console/state": "metrics",
}
# First match wins; /v2/repository/index only looks.
PREFIX_SCOPES: tuple[tuple[str, KeyScope], ...] = (
    ("/admin", "admin"),
    ("/v2/repository/models/", "admin"),
)
# Where the name of the request's key is found in the ASGI scope.
KEY_NAME = "edgeloop.key_name"
BEARER = b"bearer "
# What an unknown id is compared with, so that it costs the same as a known one.
NO_DIGEST = bytes(32)

KeyName = str


class Keys(Section):
    """serve.yaml's `keys`. `file`: what `edgeloop keys add` wrote."""

    file: OperatorPath


class Bucket:
    """A token bucket: `burst` requests at once, `rate` more a second. Source: RFC 2697."""

    def __init__(self, rate: float, burst: int, now_seconds: float) -> None:
        self.limits = (rate, burst)
        self._rate = rate
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at_seconds = now_seconds

    def take(self, now_seconds: float) -> float:
        """0.0 and a token less, or the seconds until there is one."""
        passed = max(0.0, now_seconds - self._at_seconds)
        self._tokens = min(self._burst, self._tokens + passed * self._rate)
        self._at_seconds = now_seconds
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


@dataclass(frozen=True, slots=True)
class Holder:
    """A key as a request is checked against it."""

    name: KeyName
    digest: bytes
    scopes: frozenset[KeyScope]
    expires_at: float  # Unix seconds; infinite for never
    bucket: Bucket | None


class Guard:
    """Checks requests against a file of keys; without a file everything is open."""

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises RecipeError where the file is not one of keys."""
        self.path = path
        self._clock = clock
        self._wall_clock = wall_clock
        self._holders: Mapping[str, Holder] = {}
        if path is not None:
            self._holders = self._load(path)

    def reload(self) -> bool:
        """Read the file again; where that fails the old keys stay, and the log says why."""
        if self.path is None:
            return True
        try:
            self._holders = self._load(self.path)
        except EdgeloopError as problem:
            logger.error("event=keys_not_reloaded problem=%r", str(problem))
            return False
        logger.info("event=keys_loaded file=%s keys=%d", self.path, len(self._holders))
        return True

    def admit(self, scope: Scope) -> KeyName | None:
        """Check a request for what its route needs. Raises Refused (401, 403, 429)."""
        if self.path is None or scope["path"] in OPEN_ROUTES:
            return None
        return self.check(scope, needed_scope(scope["path"]))

    def check(self, scope: Scope, needed: KeyScope) -> KeyName | None:
        """The name of the request's key, None where no keys are configured.

        Raises Refused: 401 without a key that is known and has not expired, 403 where it lacks the
        scope, 429 over its rate, with the time to come back.
        """
        if self.path is None:
            return None
        holder = self._holder(presented_key(scope))
        if needed not in holder.scopes:
            raise Refused(
                403,
                "Forbidden",
                f"the key {holder.name} has not the scope {needed}, which this route needs",
                reason="forbidden",
            )
        wait_seconds = 0.0 if holder.bucket is None else holder.bucket.take(self._clock())
        if wait_seconds > 0.0:
            raise Refused(
                429,
                "Overloaded",
                f"the key {holder.name} is over its rate of requests; try again later",
                reason="rate_limited",
                headers=retry_after(wait_seconds),
            )
        return holder.name

    def _holder(self, presented: str | None) -> Holder:
        if presented is None:
            _unauthorized("this server needs a key: send authorization: Bearer KEY, or x-api-key")
        found = self._holders.get(key_id(presented))
        expected = NO_DIGEST if found is None else found.digest
        if not hmac.compare_digest(digest(presented), expected) or found is None:
            _unauthorized("the key is not known to this server")
        if found.expires_at <= self._wall_clock():
            _unauthorized(f"the key {found.name} has expired")
        return found

    def _load(self, path: Path) -> Mapping[str, Holder]:
        old, now_seconds = self._holders, self._clock()
        return {
            entry.id: _holder(entry, old.get(entry.id), now_seconds)
            for entry in read_keys(path).keys
        }


def needed_scope(path: str) -> KeyScope:
    """What a route asks of a key; what is not named here answers, or is not there."""
    found = ROUTE_SCOPES.get(path)
    if found is not None:
        return found
    return next((scope for prefix, scope in PREFIX_SCOPES if path.startswith(prefix)), "predict")


def presented_key(scope: Scope) -> str | None:
    """The request's key, of `authorization: Bearer` or `x-api-key`; None without either."""
    headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
    for name, value in headers:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            return value[len(BEARER) :].strip().decode("latin-1")
        if name == b"x-api-key":
            return value.strip().decode("latin-1")
    return None


def _unauthorized(message: str) -> NoReturn:
    raise Refused(
        401,
        "Unauthorized",
        message,
        reason="unauthorized",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def _holder(entry: KeyEntry, old: Holder | None, now_seconds: float) -> Holder:
    """A reload does not fill a bucket: whose limits are the same keeps its tokens."""
    expires = float("inf") if entry.expires_at is None else entry.expires_at.timestamp()
    bucket = None
    if entry.requests_per_second is not None:
        limits = (entry.requests_per_second, entry.burst)
        kept = old.bucket if old is not None else None
        bucket = kept if kept and kept.limits == limits else Bucket(*limits, now_seconds)
    return Holder(entry.name, bytes.fromhex(entry.sha256), frozenset(entry.scopes), expires, bucket)

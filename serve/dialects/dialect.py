"""What a dialect is made of: routes, each with the shape of its errors, and for the routes that
answer texts how a body is read and how the answers are told.

All dialects lead to one scheduler: `parse` gives texts, the engine gives Scored, `encode` writes
them down. No dialect computes a number that another one computes differently (scores.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from edgeloop.bundle import Bundle
from edgeloop.rows import TextInput
from serve.jobs import Scored
from serve.refused import Refused
from serve.tally import Tally
from serve.wire import JSON, Headers

MAX_BATCH_TEXTS = 32
UNKNOWN_MODEL = "unknown_model"
# A version or a model may be named by its bundle's digest, by no less of it than this.
DIGEST_CHARS = 12
NO_NAMES: Mapping[str, str] = MappingProxyType({})


class TextRequest(msgspec.Struct, frozen=True):
    """A valid request: at least one text or pair, none of them empty. `batched`: they came as a
    batch, and the answer must be one. `raw_scores`: logits are wanted, not probabilities."""

    texts: tuple[TextInput, ...]
    batched: bool
    truncate: bool = False
    raw_scores: bool = False
    timeout_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with its body read. `names`: what the path names, such as its model; `variant`:
    which of the deployments admitted it."""

    body: bytes
    headers: Mapping[bytes, bytes] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    variant: str = "stable"


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request."""

    body: bytes
    headers: Headers = ()
    content_type: bytes = JSON
    status: int = 200


@dataclass(frozen=True, slots=True)
class Served:
    """What there is to tell about the server at this moment. `live`: all its threads are;
    `ready`: it is that and does not drain."""

    bundle: Bundle
    live: bool
    ready: bool
    tally: Tally


R = TypeVar("R", bound=TextRequest)


@dataclass(frozen=True)
class Dialect(Generic[R]):
    """How a route reads a body (asked, bundle, most texts in a batch) and tells the answers.
    `parse` raises Refused. `inputs` and `longer`: the field of the texts, and what helps where one
    is too long, as its errors say it."""

    parse: Callable[[Asked, Bundle, int], R]
    encode: Callable[[Sequence[Scored], Bundle, R], Reply]
    inputs: str = "inputs"
    longer: str = 'shorten it, or send "truncate": true to have it cut at its end'


View = Callable[[Served, Asked], Reply]
Shape = Callable[[Refused], tuple[int, bytes]]


@dataclass(frozen=True)
class Route:
    """A path with {names} in it. `dialect` answers a POST, each of `views` its own method.
    `group`: the routes that it is counted with in the metrics; by itself where that is empty."""

    template: str
    shape: Shape
    dialect: Dialect[Any] | None = None
    views: Mapping[str, View] = field(default_factory=dict)
    group: str = ""

    @property
    def label(self) -> str:
        """Its label in the metrics."""
        return self.group or self.template

    def methods(self) -> tuple[str, ...]:
        """What the route answers, sorted."""
        posts = () if self.dialect is None else ("POST",)
        return tuple(sorted({*posts, *self.views}))


def check_model(name: str | None, bundle: Bundle) -> None:
    """Raises Refused (404) where a model is named that is neither the bundle's name nor the first
    DIGEST_CHARS or more of its digest."""
    if name is None or name == bundle.manifest.name or is_version(name, bundle):
        return
    raise Refused(
        404,
        "NotFound",
        f"model {name!r} is not served here; this server has {bundle.manifest.name!r}",
        reason=UNKNOWN_MODEL,
    )


def check_version(version: str | None, bundle: Bundle) -> None:
    """Raises Refused (404) where a version is named that is not the served one."""
    if version is None or is_version(version, bundle):
        return
    raise Refused(
        404,
        "NotFound",
        f"version {version!r} of {bundle.manifest.name} is not served; the version that is, is "
        f"{version_of(bundle)!r}",
        reason=UNKNOWN_MODEL,
    )


def is_version(name: str, bundle: Bundle) -> bool:
    """Is this the beginning of the bundle's digest, and enough of it?"""
    return len(name) >= DIGEST_CHARS and bundle.digest.startswith(name)


def version_of(bundle: Bundle) -> str:
    """How the bundle's version is told."""
    return bundle.digest[:DIGEST_CHARS]


def send(document: object, status: int = 200) -> Reply:
    """A reply in JSON."""
    return Reply(msgspec.json.encode(document), status=status)


def tei_shape(problem: Refused) -> tuple[int, bytes]:
    """{"error": "...", "error_type": "Validation"}: status and body."""
    return problem.status, problem.body()

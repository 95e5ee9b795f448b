"""What stands between the network and the model, put together from serve.yaml: keys, TLS, limits of
connections, and the capture. The files of keys and certificates are read again when they change.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.capture.writer import Capture
from serve.config import ServerConfig
from serve.keys import Guard
from serve.metrics import ServeMetrics
from serve.open_files import usable_connections
from serve.protocol import Limits
from serve.tls import TlsContext
from serve.watch import FileWatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Protection:
    """One server's. `reloads`: what SIGHUP may call as well; each returns whether it went well."""

    guard: Guard
    tls: TlsContext | None
    limits: Limits
    capture: Capture | None
    reloads: list[Callable[[], bool]]
    watches: list[FileWatch] = field(default_factory=list)

    def close(self) -> None:
        """Write what the capture still holds, and look at no file any more."""
        for watch in self.watches:
            watch.close()
        if self.capture is not None:
            self.capture.close()


@dataclass(frozen=True)
class Secrets:
    """What is read before anything heavy: a wrong path must not cost a model's loading."""

    guard: Guard
    tls: TlsContext | None


def read_secrets(config: ServerConfig) -> Secrets:
    """Raises RecipeError where the files of keys or certificates are not what they should be."""
    guard = Guard(None if config.keys is None else config.keys.file)
    return Secrets(guard, None if config.tls is None else TlsContext(config.tls))


def protect(config: ServerConfig, secrets: Secrets, metrics: ServeMetrics) -> Protection:
    """Start the threads. Raises RecipeError where the capture's folder cannot be used."""
    limits = Limits(
        config.request_timeout_seconds, usable_connections(config.max_connections), metrics
    )
    capture = None if config.capture is None else Capture(config.capture, metrics)
    guard, tls = secrets.guard, secrets.tls
    made = Protection(guard, tls, limits, capture, [guard.reload, *([tls.reload] if tls else [])])
    if config.keys is not None:
        made.watches.append(FileWatch([config.keys.file], guard.reload))
    if config.tls is not None and tls is not None:
        made.watches.append(FileWatch(config.tls.paths(), tls.reload))
    return made

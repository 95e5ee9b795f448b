"""The server process: its settings, and the order of start and stop.

Start: bind, verify, load, replay golden rows, listen. Stop (SIGTERM, SIGINT): every answer says
`connection: close`, /health says 503, then the port closes, what is in flight is answered, the
drift monitor takes what is left. A second signal stops at once. A kill leaves nothing to clean.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from edgeloop.bundle import Bundle
from edgeloop.errors import RecipeError
from edgeloop.ledger import Deployment, Ledger
from edgeloop.observer import Observer
from edgeloop.records import Verdict
from serve.app import EdgeApp
from serve.config import ServerConfig
from serve.cores import default_workers
from serve.follow import Follower, deployed_now
from serve.listener import bind, listen, url
from serve.metrics import ServeMetrics
from serve.process import EdgeServer
from serve.slot import Activator, Slot, verify_bundle

logger = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class ServerSettings:
    """What to serve (a bundle folder, or what the ledger says is deployed for a model) and where.

    `public_key`: serve only bundles that are signed with its other half. `config`: the operator's
    serve.yaml.

    `on_ready` gets the server's URL once it answers. `make_collector` makes the monitor's
    Prometheus collector from a function that returns the observer of the moment.
    """

    host: str
    port: int
    bundle: Path | None
    follow: str | None
    ledger: Ledger | None
    make_observer: Callable[[Bundle], Observer]
    on_verdict: Callable[[Verdict], None]
    make_collector: Callable[[Callable[[], Observer]], Collector] | None = None
    on_ready: Callable[[str], None] | None = None
    workers: int | None = None
    config: ServerConfig = ServerConfig()
    public_key: Path | None = None

    def __post_init__(self) -> None:
        """Raises RecipeError where the values do not make a server."""
        if (self.bundle is None) == (self.follow is None):
            raise RecipeError("serve either a bundle folder or a model of the ledger, not both")
        if self.follow is not None and self.ledger is None:
            raise RecipeError(f"following the model {self.follow!r} needs a ledger")
        if not 0 <= self.port <= 65535:
            raise RecipeError(f"port {self.port} is not between 0 and 65535 (0 picks a free one)")
        if self.workers is not None and self.workers < 1:
            raise RecipeError(f"workers is {self.workers}, at least 1 is needed")


def run_server(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0.

    Raises RecipeError (the port), BundleError (the bundle may not serve), LedgerError (nothing is
    deployed). Call it on the main thread: it takes the signals over.
    """
    # One text at a time is tokenized: the tokenizer's own thread pool would only cost.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with bind(settings.host, settings.port) as listener:
        served = _served(settings)
        bundle = _first_bundle(settings, served)
        metrics = ServeMetrics(_registry(), bundle.manifest.name)
        activator = _activator(settings, metrics)
        slot = Slot(activator.activate(bundle), metrics)
        _add_collector(settings, slot, metrics)
        follower = None
        if served is not None and settings.ledger is not None:
            follower = Follower(
                slot, settings.ledger, activator, metrics, served, settings.public_key
            )
        listen(listener)
        config = settings.config
        app = EdgeApp(slot, metrics, settings.ledger, config.queue_texts)
        server = EdgeServer(app, listener, config.drain_seconds, _on_started(settings, listener))
        server.run_until_stopped(follower, config.poll_seconds)
        slot.current.close()
        slot.current.join(JOIN_SECONDS)
    logger.info("event=stopped model=%s", metrics.model)
    return 0


def _served(settings: ServerSettings) -> Deployment | None:
    if settings.follow is None or settings.ledger is None:
        return None
    return deployed_now(settings.ledger, settings.follow)


def _first_bundle(settings: ServerSettings, served: Deployment | None) -> Bundle:
    if served is not None:
        return verify_bundle(served.path, served.model, served.bundle_digest, settings.public_key)
    assert settings.bundle is not None
    return verify_bundle(settings.bundle, public_key=settings.public_key)


def _registry() -> CollectorRegistry:
    """The process's own registry, with its memory, CPU and file figures."""
    # They double the series, and nothing reads them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def _activator(settings: ServerSettings, metrics: ServeMetrics) -> Activator:
    workers = settings.workers or default_workers()
    logger.info("event=starting model=%s workers=%d", metrics.model, workers)
    return Activator(
        settings.make_observer,
        settings.on_verdict,
        metrics,
        workers,
        settings.config.queue_texts,
        settings.config.cache_texts,
    )


def _add_collector(settings: ServerSettings, slot: Slot, metrics: ServeMetrics) -> None:
    if settings.make_collector is not None:
        inner = settings.make_collector(lambda: slot.current.feed.observer)
        metrics.registry.register(SafeCollector(inner))


def _on_started(settings: ServerSettings, listener: socket.socket) -> Callable[[], None]:
    def started() -> None:
        logger.info("event=serving url=%s", url(listener))
        if settings.on_ready is not None:
            settings.on_ready(url(listener))

    return started


class SafeCollector(Collector):
    """A collector whose failure costs its own metrics, not the scrape."""

    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterable[Metric]:
        """The inner collector's metrics, or none."""
        try:
            return list(self._inner.collect())
        except Exception:
            logger.exception("event=collector_failed")
            return []

"""The server process: its settings, and the order of start and stop.

Start: bind, verify, load, replay golden rows, listen. Stop (SIGTERM, SIGINT): every answer says
`connection: close`, /health says 503, then the port closes, what is in flight is answered, the
drift monitor takes what is left. A second signal stops at once. A kill leaves nothing to clean.
"""

import logging
import os
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
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
from serve.autotune import Threads, can_tune, shared, tune
from serve.config import ServerConfig
from serve.console.page import Console
from serve.cores import default_workers
from serve.follow import deployed_now
from serve.lifecycle import Lifecycle, Loop, activate_first, remembered_bundle
from serve.lifecycle_config import Admin
from serve.listener import bind, listen, url
from serve.metrics import ServeMetrics
from serve.process import Beside, EdgeServer
from serve.protection import Protection, protect, read_secrets
from serve.reload import Reloader
from serve.slot import Activator, Slot, verify_bundle
from serve.state import StateFolder
from serve.watches import watches
from serve.worker_maker import WorkerMaker
from serve.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

JOIN_SECONDS = 5.0


@dataclass(frozen=True)
class ServerSettings:
    """What to serve (a bundle folder, or what the ledger says is deployed for a model) and where.

    `public_key`: serve only bundles that are signed with its other half. `config`: the operator's
    serve.yaml.

    `on_ready` gets the server's URL once it answers, `on_admin_ready` the admin listener's after
    it. `config_path`: what SIGHUP reads again. `tuned`: where it is kept which threads answer best;
    without it nothing is measured. `make_collector` makes the monitor's
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
    config_path: Path | None = None
    on_admin_ready: Callable[[str], None] | None = None
    tuned: Path | None = None

    def __post_init__(self) -> None:
        """Raises RecipeError where the values do not make a server."""
        if (self.bundle is None) == (self.follow is None):
            raise RecipeError("serve either a bundle folder or a model of the ledger, not both")
        if self.follow is not None and self.ledger is None:
            raise RecipeError(f"following the model {self.follow!r} needs a ledger")
        if not 0 <= self.port <= 65535:
            raise RecipeError(f"port {self.port} is not between 0 and 65535 (0 picks a free one)")
        if self.follow is not None and self.config.watch is not None:
            raise RecipeError(
                "`watch` in serve.yaml and --follow both decide what is served; use one"
            )
        canary = self.config.canary
        if self.follow is not None and canary is not None and canary.promote:
            raise RecipeError(
                "canary.promote in serve.yaml and --follow both decide what is served; use one"
            )
        if self.workers is not None and self.workers < 1:
            raise RecipeError(f"workers is {self.workers}, at least 1 is needed")


def run_server(settings: ServerSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code is 0.

    Raises RecipeError (port, keys, certificates, capture's folder), BundleError (the bundle may
    not serve), LedgerError (nothing is deployed). Call it on the main thread: it takes the
    signals over.
    """
    # One text at a time is tokenized: the tokenizer's own thread pool would only cost.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Until the event loop takes it: a reload must not end a server that is about to start.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    config = settings.config
    secrets = read_secrets(config)
    with (
        bind(settings.host, settings.port) as listener,
        _bind_admin(config.admin) as admin,
        _maker(config) as maker,
    ):
        served = _served(settings)
        state = None if config.state is None else StateFolder(config.state, config.state_seconds)
        remembered = _remembered(settings, state)
        bundle = remembered or _first_bundle(settings, served)
        metrics = ServeMetrics(_registry(), bundle.manifest.name)
        activator = _activator(settings, metrics, state, bundle, maker)
        named = (lambda: _first_bundle(settings, served)) if remembered else None
        active = activate_first(activator, bundle, named)
        reloader = Reloader(config, settings.config_path)
        lifecycle = Lifecycle(
            active, activator, metrics, reloader, settings.bundle, settings.public_key
        )
        _add_collector(settings, lifecycle.slot, metrics)
        if served is not None and settings.ledger is not None:
            lifecycle.follow(settings.ledger, served)
        protection = protect(config, secrets, metrics)
        reloader.always += protection.reloads
        listen(listener)
        if admin is not None:
            listen(admin)
        app = _app(settings, metrics, lifecycle, protection)
        started = _on_started(settings, listener, admin)
        tls = None if protection.tls is None else protection.tls.context
        server = EdgeServer(app, listener, config.drain_seconds, started, protection.limits, tls)
        _take_changes(reloader, app, server)
        loops = [
            *_loops(lifecycle, activator.pool),
            *watches(lifecycle.slot, metrics, reloader, settings.ledger),
        ]
        admin_app = (
            None if admin is None else (lifecycle.admin_app(config, protection.guard), admin)
        )
        server.run_until_stopped(Beside(loops, reloader.reload, admin_app))
        lifecycle.close(JOIN_SECONDS)
        if activator.pool is not None:
            activator.pool.close()
        protection.close()
    logger.info("event=stopped model=%s", metrics.model)
    return 0


def _app(
    settings: ServerSettings, metrics: ServeMetrics, lifecycle: Lifecycle, protection: Protection
) -> EdgeApp:
    config = settings.config
    return EdgeApp(
        lifecycle.slot,
        metrics,
        settings.ledger,
        config.queue_texts,
        protection.guard,
        protection.capture,
        config.access_log,
        Console(lifecycle.deployments) if config.console else None,
    )


def _maker(config: ServerConfig) -> AbstractContextManager[WorkerMaker | None]:
    """First of all, and beside what follows: it takes as long to start as all of that."""
    return WorkerMaker() if config.processes else nullcontext()


def _loops(lifecycle: Lifecycle, pool: WorkerPool | None) -> list[Loop]:
    """What runs on the event loop beside the server."""
    return lifecycle.loops() if pool is None else [pool.read_on_loop, *lifecycle.loops()]


def _bind_admin(admin: Admin | None) -> AbstractContextManager[socket.socket | None]:
    if admin is None:
        return nullcontext()
    return bind(admin.host, admin.port, "admin.host or admin.port of serve.yaml")


def _remembered(settings: ServerSettings, state: StateFolder | None) -> Bundle | None:
    if settings.bundle is None or state is None:
        return None
    return remembered_bundle(settings.bundle, state, settings.public_key)


def _take_changes(reloader: Reloader, app: EdgeApp, server: EdgeServer) -> None:
    """What SIGHUP can change in the application and the server."""

    def set_drain_seconds(config: ServerConfig) -> None:
        server.drain_seconds = config.drain_seconds

    reloader.add({"drain_seconds"}, set_drain_seconds)
    reloader.add({"queue_texts"}, lambda config: app.set_queue_texts(config.queue_texts))


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


def _activator(
    settings: ServerSettings,
    metrics: ServeMetrics,
    state: StateFolder | None,
    bundle: Bundle,
    maker: WorkerMaker | None,
) -> Activator:
    threads = _threads(settings, bundle)
    pool = None
    if maker is not None:
        pool = WorkerPool(threads.layout.workers, maker, metrics)
        pool.start()
    logger.info("event=starting model=%s workers=%d", metrics.model, threads.layout.workers)
    return Activator(
        settings.make_observer,
        settings.on_verdict,
        metrics,
        threads,
        settings.config.queue_texts,
        settings.config.cache_texts,
        state,
        pool,
    )


def _threads(settings: ServerSettings, bundle: Bundle) -> Threads:
    """As they are asked for, or as they were measured to answer most here."""
    cores = settings.workers or default_workers()
    if (
        settings.workers is not None
        or settings.tuned is None
        or settings.config.processes
        or not settings.config.autotune
        or not can_tune(bundle, cores)
    ):
        return shared(cores)
    return tune(bundle, cores, settings.tuned)


def _add_collector(settings: ServerSettings, slot: Slot, metrics: ServeMetrics) -> None:
    if settings.make_collector is not None:
        inner = settings.make_collector(lambda: slot.current.feed.observer)
        metrics.registry.register(SafeCollector(inner))


def _on_started(
    settings: ServerSettings, listener: socket.socket, admin: socket.socket | None
) -> Callable[[], None]:
    scheme = "http" if settings.config.tls is None else "https"
    address = url(listener, scheme)

    def started() -> None:
        logger.info("event=serving url=%s", address)
        if settings.on_ready is not None:
            settings.on_ready(address)
        if admin is not None:
            logger.info("event=admin url=%s", url(admin, scheme))
            if settings.on_admin_ready is not None:
                settings.on_admin_ready(url(admin, scheme))

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

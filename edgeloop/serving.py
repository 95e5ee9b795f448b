"""Puts the server and the drift monitor together. Command: `edgeloop serve`."""

from pathlib import Path

from edgeloop.bundle import Bundle
from edgeloop.ledger import Ledger
from edgeloop.observer import Observer
from edgeloop.records import Verdict
from monitor.metrics import DriftCollector
from monitor.observer import DriftObserver
from serve.run import ServerSettings, run_server


def serve_bundle(
    bundle: Path | None,
    follow: str | None,
    host: str,
    port: int,
    workers: int | None,
    ledger: Ledger | None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. Raises EngineError (port in use),
    BundleError and LedgerError (nothing to serve)."""

    def make_observer(opened: Bundle) -> Observer:
        return DriftObserver(opened)

    def on_verdict(verdict: Verdict) -> None:
        if ledger is not None:
            ledger.add_verdict(verdict)

    settings = ServerSettings(
        host=host,
        port=port,
        bundle=bundle,
        follow=follow,
        ledger=ledger,
        make_observer=make_observer,
        on_verdict=on_verdict,
        make_collector=DriftCollector,
        workers=workers,
    )
    return run_server(settings)

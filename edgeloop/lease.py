"""Holds the ledger's lease on a model while a run is under way: one run per model at a time."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgeloop.errors import LedgerError
from edgeloop.ledger import Lease, Ledger

logger = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
RENEW_EVERY_SECONDS = 20.0


@contextmanager
def held(ledger: Ledger, model: str) -> Iterator[Lease | None]:
    """The lease, renewed in the background and given back at the end; None where it is taken.

    A process that dies stops renewing: after LEASE_SECONDS (at once, on the same machine) another
    one may take over, and the fence keeps a stalled holder from promoting afterwards.
    """
    lease = ledger.acquire(model, LEASE_SECONDS)
    if lease is None:
        yield None
        return
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(ledger, lease, stop), daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join()
        ledger.release(lease)


def _renew(ledger: Ledger, lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(RENEW_EVERY_SECONDS):
        try:
            ledger.renew(lease, LEASE_SECONDS)
        except LedgerError as problem:
            # The promotion checks the fence again; here it is only news.
            logger.warning("lease=%s fence=%d not renewed: %s", lease.model, lease.fence, problem)

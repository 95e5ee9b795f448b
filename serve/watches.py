"""What looks at the served bundle beside the traffic: the golden rows and the labels."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from edgeloop.ledger import Ledger
from serve.golden_run import GoldenMetrics
from serve.golden_watch import GoldenWatch
from serve.labels import LabelTail
from serve.metrics import ServeMetrics
from serve.reload import Reloader
from serve.slot import Slot

Loop = Callable[[], Coroutine[Any, Any, None]]


def watches(
    slot: Slot, metrics: ServeMetrics, reloader: Reloader, ledger: Ledger | None
) -> list[Loop]:
    """The loops that run beside the server until it stops; labels need a ledger."""
    golden = GoldenWatch(
        slot,
        GoldenMetrics(metrics.registry, metrics.model, lambda: slot.current.golden),
        lambda: reloader.config.golden_interval_seconds,
    )
    reloader.add({"golden_interval_seconds"}, lambda _: golden.wake())
    loops: list[Loop] = [golden.run]
    if ledger is not None:
        tail = LabelTail(slot, ledger, metrics, reloader.config.feedback_counts)
        loops.append(partial(tail.run, lambda: reloader.config.poll_seconds))
    return loops

"""Canary prompts: the bundle's golden rows, asked again and again while the server runs. What they
say has nothing to do with the traffic, so that a changed runtime (another CPU, another library, a
damaged file) is told from changed traffic.

One text at a time, straight to the engine and only while no request waits: no metric of the
traffic, no drift monitor and no capture sees them. The bundle's files are read again as well: the
model in memory does not notice that it could not be loaded any more.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from edgeloop.bundle import Bundle, GoldenRow, manifest_digest, open_bundle
from edgeloop.errors import BundleError
from edgeloop.golden import agrees, difference
from edgeloop.rows import TextInput
from edgeloop.tasks import TASKS
from serve.engine import Engine
from serve.golden_run import GoldenMetrics, GoldenRun
from serve.jobs import Job, Scored
from serve.slot import Active, Slot

logger = logging.getLogger(__name__)

# Servers that were started together must not ask together.
JITTER = 0.1
PAUSE_SECONDS = 0.02
TIMEOUT_SECONDS = 60.0
# Where requests always wait, a text is asked all the same after this long.
LONGEST_WAIT_SECONDS = 5.0


class GoldenWatch:
    """One server's, on its event loop."""

    def __init__(
        self,
        slot: Slot,
        metrics: GoldenMetrics,
        interval_seconds: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`interval_seconds()`: between two replays, 0 for none; `draw()`: uniform in [0, 1)."""
        self._slot = slot
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._draw = draw
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Replay every interval until cancelled; for the first time within one."""
        factor = self._draw()
        while True:
            if await self._wait(factor * self._interval_seconds()):
                continue  # another interval by now
            factor = 1.0 + JITTER * (2.0 * self._draw() - 1.0)
            try:
                await self.replay()
            except Exception:  # the server keeps answering; the next replay is another chance
                logger.exception("event=golden_not_replayed")

    def wake(self) -> None:
        """The interval has changed."""
        self._changed.set()

    async def _wait(self, seconds: float) -> bool:
        """False once they are over, True where the interval changed before; without an interval
        only that ends it."""
        self._changed.clear()
        try:
            await asyncio.wait_for(
                self._changed.wait(), None if self._interval_seconds() == 0.0 else seconds
            )
        except TimeoutError:
            return False
        return True

    async def replay(self) -> GoldenRun:
        """Ask all golden rows of the bundle that answers now, once."""
        with self._slot.current as active:
            rows = await asyncio.to_thread(active.bundle.golden)
            run = await self._ask_all(active, rows)
        active.golden = run
        self._metrics.runs.inc()
        _log(active.bundle, run)
        return run

    async def _ask_all(self, active: Active, rows: tuple[GoldenRow, ...]) -> GoldenRun:
        manifest = active.bundle.manifest
        task, flips, largest = TASKS[manifest.task], 0, 0.0
        for row in rows:
            output = (await ask_aside(active.engine, row.input)).output
            flips += not agrees(row, output, task, manifest.labels)
            largest = max(largest, difference(row, output, task, manifest.labels))
        return GoldenRun(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            rows=len(rows),
            flips=flips,
            largest_difference=largest,
            damage=await asyncio.to_thread(damage, active.bundle),
        )


async def ask_aside(engine: Engine, text: TextInput) -> Scored:
    """The model's answer to a text that is no request, once none waits. Raises what the engine
    does: QueueFull, Expired, EngineError."""
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    await asyncio.sleep(PAUSE_SECONDS)
    while engine.queued_texts() and time.monotonic() < end:
        await asyncio.sleep(PAUSE_SECONDS)
    job = Job([text], True, time.monotonic() + TIMEOUT_SECONDS, may_cache=False)
    engine.submit(job)
    (scored,) = await asyncio.wrap_future(job.future)
    return scored


def damage(bundle: Bundle) -> str:
    """What is wrong with the bundle's folder by now, in words; empty where nothing is, or where
    another bundle lies there, which is somebody's intention."""
    try:
        if manifest_digest(bundle.path) == bundle.digest:
            open_bundle(bundle.path)
    except (BundleError, OSError) as problem:
        return str(problem)
    return ""


def _log(bundle: Bundle, run: GoldenRun) -> None:
    level = logging.ERROR if run.runtime_changed else logging.INFO
    logger.log(
        level,
        "event=%s bundle=%s rows=%d flips=%d largest_difference=%.6f damage=%r",
        "runtime_changed" if run.runtime_changed else "golden_replayed",
        bundle.digest[:12],
        run.rows,
        run.flips,
        run.largest_difference,
        run.damage,
    )

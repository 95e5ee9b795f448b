"""Every change of what serves goes through here, one at a time: swaps and rollbacks, from the admin
routes, the ledger or the watched folder, and what became of them.

A swap opens and checks the bundle, loads it aside, replays its golden rows on the warm engine, and
only then puts it in the slot. Whatever fails, the old one serves on.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeloop.bundle import Bundle
from edgeloop.ledger import utc_now
from serve.metrics import ServeMetrics
from serve.slot import ActivationError, Activator, Active, Slot
from serve.trial import Trial

T = TypeVar("T")

logger = logging.getLogger(__name__)

HISTORY_LENGTH = 50
NOTHING_BEFORE = "there is no bundle from before that is loaded and can answer"


@dataclass(frozen=True)
class Change:
    """One line of the history. `kind`: swap, rollback, canary, shadow; `source`: admin, ledger,
    watch, config or trial; `outcome`: ok, the step that failed, or what became of a trial."""

    at: str
    kind: str
    source: str
    outcome: str
    digest: str | None
    path: str
    reason: str
    seconds: float


class Deployments:
    """What serves, what served before, and how that came about. Lives on the event loop."""

    def __init__(self, slot: Slot, activator: Activator, metrics: ServeMetrics) -> None:
        self.slot = slot
        self.metrics = metrics
        self.history: deque[Change] = deque(maxlen=HISTORY_LENGTH)
        # Called after every change of what answers; what they raise is logged.
        self.on_change: list[Callable[[], Awaitable[None]]] = []
        self._activator = activator
        self._turn = asyncio.Lock()

    def busy(self) -> bool:
        """Is a bundle being loaded or swapped at the moment?"""
        return self._turn.locked()

    async def swap(
        self, path: Path, source: str, check: Callable[[], Bundle], take_warm: bool = False
    ) -> bool:
        """Let the bundle that `check` opens answer; False where it does already. With `take_warm`
        the one from before is not loaded a second time where it is that bundle.

        Raises ActivationError with the step that failed.
        """
        async with self._turn:
            started = time.monotonic()
            try:
                ready = await asyncio.to_thread(self._prepare, check, take_warm)
            except ActivationError as problem:
                self.metrics.swapped(problem.reason)
                self.note("swap", source, problem.reason, path, str(problem))
                logger.error(
                    "event=swap_refused reason=%s source=%s problem=%s",
                    problem.reason,
                    source,
                    problem,
                )
                raise
            if ready is None:
                logger.info("event=already_served bundle=%s", self._digest()[:12])
                return False
            was = self._digest()
            self.slot.swap(ready)
            self.metrics.swapped("ok")
            seconds = time.monotonic() - started
            self.record("swap", source, "ok", ready.bundle, "", seconds)
            logger.info(
                "event=swapped model=%s bundle=%s was=%s source=%s seconds=%.3f",
                self.metrics.model,
                self._digest()[:12],
                was[:12],
                source,
                seconds,
            )
            await self.changed()
        return True

    async def roll_back(self, reason: str, source: str) -> None:
        """Let the bundle from before answer again. Raises ActivationError (busy, previous)."""
        if self.busy():
            raise ActivationError("busy", "a bundle is being swapped; try again when it is done")
        async with self._turn:
            was = self._digest()
            if not self.slot.roll_back():
                raise ActivationError("previous", NOTHING_BEFORE)
            self.metrics.rolled_back(reason)
            self.record("rollback", source, "ok", self.slot.current.bundle, reason, 0.0)
            logger.warning(
                "event=rolled_back bundle=%s was=%s reason=%s",
                self._digest()[:12],
                was[:12],
                reason,
            )
            await self.changed()

    async def promote(self, trial: Trial, evidence: str) -> None:
        """Let what is on trial answer all, where it still is on trial."""
        async with self._turn:
            if self.slot.trial(trial.variant) is not trial or self.slot.current is not trial.stable:
                return
            self.slot.end_trial(trial.variant)
            self.slot.swap(trial.active)
            self.metrics.swapped("ok")
            self.record(trial.variant, "trial", "promoted", trial.active.bundle, evidence, 0.0)
            logger.info("event=promoted bundle=%s %s", self._digest()[:12], evidence)
            await self.changed()

    async def keep_previous(self, keep: bool) -> None:
        """Keep the bundle from before loaded from now on, or let it go."""
        async with self._turn:
            self.slot.keep_previous(keep)

    async def prepare(self, check: Callable[[], Bundle]) -> Active:
        """Load a bundle aside without letting it answer, one at a time. Raises ActivationError."""
        async with self._turn:
            return await asyncio.to_thread(self._load, check)

    def record(
        self, kind: str, source: str, outcome: str, bundle: Bundle, reason: str, seconds: float
    ) -> None:
        """Add a line to the history."""
        self.history.append(
            Change(
                utc_now(), kind, source, outcome, bundle.digest, str(bundle.path), reason, seconds
            )
        )

    def note(self, kind: str, source: str, outcome: str, path: Path, reason: str) -> None:
        """Add a line about a bundle that was not opened or not loaded."""
        self.history.append(Change(utc_now(), kind, source, outcome, None, str(path), reason, 0.0))

    async def changed(self) -> None:
        """Tell whoever wants to know what answers from now on."""
        for tell in self.on_change:
            try:
                await tell()
            except Exception:  # what answers has changed already
                logger.exception("event=on_change_failed")

    def _prepare(self, check: Callable[[], Bundle], take_warm: bool) -> Active | None:
        bundle = _guarded(check)
        if bundle.digest == self._digest():
            return None
        warm = self.slot.previous if take_warm else None
        if warm is not None and warm.bundle.digest == bundle.digest and warm.engine.healthy():
            return warm
        return self._load(lambda: bundle)

    def _load(self, check: Callable[[], Bundle]) -> Active:
        return _guarded(lambda: self._activator.activate(check(), judge_latency=True))

    def _digest(self) -> str:
        return self.slot.current.bundle.digest


def _guarded(step: Callable[[], T]) -> T:
    """Raises ActivationError, whatever goes wrong."""
    try:
        return step()
    except ActivationError:
        raise
    except Exception as problem:
        logger.exception("event=load_failed")
        raise ActivationError("load", f"the bundle cannot be loaded ({problem})") from problem

"""Starts, ends and promotes what is on trial: at most one canary and one shadow."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from edgeloop.bundle import Bundle
from serve.config import ServerConfig
from serve.deployments import Deployments
from serve.evidence import Standing
from serve.judge import FINE
from serve.lifecycle_config import Canary, TrialSection
from serve.metrics import CANARY, SHADOW
from serve.slot import ActivationError
from serve.trial import UNHEALTHY, Trial

logger = logging.getLogger(__name__)

VARIANTS = (CANARY, SHADOW)


class Trials:
    """Lives on the event loop. `check` opens a bundle's folder; `may_promote`: not where the ledger
    decides what answers. `refused`: the digests that were rolled back."""

    def __init__(
        self, deployments: Deployments, check: Callable[[Path], Bundle], may_promote: bool
    ) -> None:
        self.refused: list[str] = []
        self._deployments = deployments
        self._slot = deployments.slot
        self._metrics = deployments.metrics
        self._check = check
        self._may_promote = may_promote
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._configured: dict[str, TrialSection | None] = dict.fromkeys(VARIANTS)
        deployments.on_change.append(self._stable_changed)

    async def start(self, variant: str, rules: TrialSection, source: str) -> Trial:
        """Load a bundle and put it on trial, in place of one that is. Raises ActivationError with
        the step that failed; what is on trial then stays."""
        started = time.monotonic()
        try:
            active = await self._deployments.prepare(lambda: self._open(rules.bundle, source))
        except ActivationError as problem:
            self._deployments.note(variant, source, problem.reason, rules.bundle, str(problem))
            logger.error(
                "event=trial_refused variant=%s reason=%s problem=%s",
                variant,
                problem.reason,
                problem,
            )
            raise
        await self.end(variant, "replaced", "another one was started", source)
        trial = Trial(variant, active, self._slot.current, rules, self._metrics)
        self._slot.put_on_trial(trial)
        self._tasks[variant] = asyncio.create_task(self._watch(trial))
        seconds = time.monotonic() - started
        self._deployments.record(variant, source, "started", active.bundle, "", seconds)
        logger.info(
            "event=trial_started variant=%s bundle=%s share=%g",
            variant,
            active.bundle.digest[:12],
            rules.share,
        )
        return trial

    async def end(self, variant: str, outcome: str, reason: str, source: str) -> bool:
        """Stop a trial: its clients are the stable bundle's again. False where there is none."""
        trial = self._slot.end_trial(variant)
        if trial is None:
            return False
        task = self._tasks.pop(variant, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        trial.active.retire()
        self._deployments.record(variant, source, outcome, trial.active.bundle, reason, 0.0)
        logger.info(
            "event=trial_ended variant=%s bundle=%s outcome=%s reason=%r",
            variant,
            trial.active.bundle.digest[:12],
            outcome,
            reason,
        )
        return True

    async def configure(self, config: ServerConfig, at_start: bool = False) -> None:
        """Start, replace or end what serve.yaml says; a section that did not change is left alone.
        At the start of the server a canary that was rolled back before is not tried again."""
        for variant, rules in ((CANARY, config.canary), (SHADOW, config.shadow)):
            if rules == self._configured[variant]:
                continue
            self._configured[variant] = rules
            if rules is None:
                await self.end(variant, "ended", "taken out of serve.yaml", "config")
                continue
            if not at_start:
                self.refused.clear()
            try:
                await self.start(variant, rules, "config")
            except ActivationError:  # logged and in the history; the server serves on
                continue

    def stop(self) -> None:
        """Compare no more; the server ends."""
        for task in self._tasks.values():
            task.cancel()

    def _open(self, path: Path, source: str) -> Bundle:
        bundle = self._check(path)
        if bundle.digest == self._slot.current.bundle.digest:
            raise ActivationError("verify", f"{path}: is the bundle that answers already")
        if source == "config" and bundle.digest in self.refused:
            raise ActivationError(
                "verify",
                f"{path}: was rolled back before; try it again with POST /admin/canary, or name "
                "another bundle in serve.yaml",
            )
        return bundle

    async def _watch(self, trial: Trial) -> None:
        """Act on the verdicts of a trial until it has ended."""
        while True:
            try:
                verdict = await trial.run()
            except Exception:
                logger.exception("event=trial_failed variant=%s", trial.variant)
                await self.end(trial.variant, "failed", "an error; see the log", "trial")
                return
            if verdict != FINE:
                await self._roll_back(trial, verdict)
                return
            if isinstance(trial.rules, Canary) and trial.rules.promote and self._may_promote:
                await self._promote(trial)
                return
            logger.info(
                "event=trial_passed variant=%s bundle=%s %s",
                trial.variant,
                trial.active.bundle.digest[:12],
                said(trial.judge.standing()),
            )

    async def _roll_back(self, trial: Trial, verdict: str) -> None:
        reason = verdict if verdict == UNHEALTHY else trial.judge.worst_question()
        logger.warning(
            "event=trial_rolled_back variant=%s bundle=%s reason=%s %s",
            trial.variant,
            trial.active.bundle.digest[:12],
            reason,
            said(trial.judge.standing()),
        )
        if trial.variant == CANARY:
            self._metrics.rolled_back(reason)
        self.refused.append(trial.active.bundle.digest)
        await self.end(trial.variant, "rolled_back", reason, "trial")
        await self._deployments.changed()

    async def _promote(self, trial: Trial) -> None:
        """Let the canary answer all; nothing is loaded for that."""
        self._tasks.pop(trial.variant, None)
        await self._deployments.promote(trial, said(trial.judge.standing()))

    async def _stable_changed(self) -> None:
        """What was compared with another stable bundle says nothing about this one."""
        for variant in VARIANTS:
            trial = self._slot.trial(variant)
            if trial is not None and trial.stable is not self._slot.current:
                await self.end(variant, "ended", "another bundle answers now", "trial")


def said(standing: Standing) -> str:
    """The evidence as key=value words of a log line."""
    return (
        f"compared={standing.compared} evidence_worse={standing.worse:.3g} "
        f"evidence_fine={standing.fine:.3g}"
    )

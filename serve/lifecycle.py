"""Puts together what changes the bundle that answers: deployments, trials, the ledger or the
watched folder, the admin routes, SIGHUP, and the memory of all that on disk.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from edgeloop.bundle import Bundle, manifest_digest
from edgeloop.errors import BundleError
from edgeloop.ledger import Deployment, Ledger
from serve.admin import AdminApp, AdminRules
from serve.bundle_watch import Watcher
from serve.config import ServerConfig
from serve.deployments import Deployments
from serve.follow import Follower
from serve.keys import Guard
from serve.ledger_metrics import LedgerMetrics
from serve.metrics import ServeMetrics
from serve.reload import Reloader
from serve.slot import ActivationError, Activator, Active, Slot, verify_bundle
from serve.state import SCHEMA_VERSION, Served, StateFolder
from serve.trials import Trials

logger = logging.getLogger(__name__)

Loop = Callable[[], Coroutine[Any, Any, None]]


class Lifecycle:
    """One server's. `named`: the bundle folder of the command line, None where the ledger decides;
    `public_key`: what every bundle must be signed for."""

    def __init__(
        self,
        active: Active,
        activator: Activator,
        metrics: ServeMetrics,
        reloader: Reloader,
        named: Path | None,
        public_key: Path | None,
    ) -> None:
        config = reloader.config
        self.slot = Slot(active, metrics, config.keep_previous)
        self.deployments = Deployments(self.slot, activator, metrics)
        self.reloader = reloader
        self._activator = activator
        self._state = activator.state
        self._named = named
        self._public_key = public_key
        # The digest it has now: a folder that is replaced while we serve is another bundle then.
        self._named_digest = "" if named is None else manifest_digest(named)
        self._model = metrics.model
        self._registry = metrics.registry
        self._ledger_metrics: LedgerMetrics | None = None
        self._follower: Follower | None = None
        self._watcher: Watcher | None = None
        self.trials = Trials(self.deployments, self._check, may_promote=named is not None)
        self.deployments.on_change.append(self._remember)
        self._recall(config)
        self._take_changes()

    def follow(self, ledger: Ledger, served: Deployment) -> None:
        """Let the ledger decide what answers, and show it. Raises LedgerError."""
        self._ledger_metrics = LedgerMetrics(ledger, served.model)
        self._registry.register(self._ledger_metrics)
        self._follower = Follower(self.deployments, ledger, served, self._public_key)

    def admin_app(self, config: ServerConfig, guard: Guard) -> AdminApp:
        """The routes of the admin listener."""
        bundles = None if config.admin is None else config.admin.bundles
        rules = AdminRules(bundles, self._check, follows=self._named is None)
        return AdminApp(self.deployments, self.trials, rules, guard)

    def loops(self) -> list[Loop]:
        """What runs beside the server until it stops."""
        loops: list[Loop] = [self._begin]
        for looks in (self._follower, self._watcher):
            if looks is not None:
                loops.append(partial(looks.run, self._poll_seconds))
        if self._ledger_metrics is not None:
            loops.append(self._ledger_metrics.run)
        return loops

    def close(self, timeout_seconds: float) -> None:
        """Stop every deployment that is loaded; the drift state is saved."""
        for active in self.slot.deployments():
            active.close()
        for active in self.slot.deployments():
            active.join(timeout_seconds)
        if self._state is not None:
            self._state.close()

    async def _begin(self) -> None:
        await self.deployments.changed()
        try:
            await self.trials.configure(self.reloader.config, at_start=True)
            await asyncio.Event().wait()
        finally:
            self.trials.stop()

    def _poll_seconds(self) -> float:
        return self.reloader.config.poll_seconds

    def _check(self, path: Path) -> Bundle:
        return verify_bundle(path, self._model, public_key=self._public_key)

    def _recall(self, config: ServerConfig) -> None:
        """What the last server saw, so that this one does not undo a rollback."""
        known = None if self._state is None else self._state.remembered()
        if known is not None:
            self.trials.refused.extend(known.refused)
        if config.watch is not None:
            seen = None if known is None else known.watched
            self._watcher = Watcher(self.deployments, config.watch, self._check, seen)

    async def _remember(self) -> None:
        if self._state is not None:
            await asyncio.to_thread(self._write_down, self._state)

    def _write_down(self, state: StateFolder) -> None:
        state.keep_only({active.bundle.digest for active in self.slot.deployments()})
        if self._named is None:
            return
        bundle = self.slot.current.bundle
        state.remember(
            Served(
                schema_version=SCHEMA_VERSION,
                digest=bundle.digest,
                path=bundle.path.absolute(),
                named_digest=self._named_digest,
                watched=None if self._watcher is None else self._watcher.seen,
                refused=tuple(self.trials.refused),
            )
        )

    def _take_changes(self) -> None:
        """What SIGHUP can change here; app and server add their own."""
        add = self.reloader.add
        add({"poll_seconds"}, lambda config: None)  # read before every look
        add({"keep_previous"}, lambda config: self.deployments.keep_previous(config.keep_previous))
        add({"canary", "shadow"}, self.trials.configure)
        add({"queue_texts"}, self._set_queue_texts)
        add({"state_seconds"}, self._set_state_seconds)

    def _set_queue_texts(self, config: ServerConfig) -> None:
        self._activator.queue_texts = config.queue_texts
        for active in self.slot.deployments():
            active.engine.set_queue_texts(config.queue_texts)

    def _set_state_seconds(self, config: ServerConfig) -> None:
        if self._state is not None:
            self._state.seconds = config.state_seconds


def remembered_bundle(named: Path, state: StateFolder, public_key: Path | None) -> Bundle | None:
    """The bundle that answered when the last server ended, where that was started with the same
    bundle as this one; None where it is the named one or cannot be served.

    The command line wins as soon as it names another bundle than it did.
    """
    served = state.remembered()
    if served is None:
        return None
    try:
        digest = manifest_digest(named)
        if served.named_digest != digest or served.digest == digest:
            return None
        bundle = verify_bundle(served.path, public_key=public_key)
        if bundle.digest != served.digest:
            raise BundleError(f"{served.path}: is another bundle by now")
    except BundleError as problem:
        logger.error("event=remembered_not_served bundle=%s problem=%s", served.digest, problem)
        return None
    logger.info("event=remembered bundle=%s path=%s", served.digest[:12], served.path)
    return bundle


def activate_first(
    activator: Activator, bundle: Bundle, otherwise: Callable[[], Bundle] | None
) -> Active:
    """The deployment that answers first, its drift monitor where it was; `otherwise`: what to serve
    where the bundle does not load. Raises ActivationError."""
    try:
        active = activator.activate(bundle)
    except ActivationError as problem:
        if otherwise is None:
            raise
        logger.error("event=remembered_not_served bundle=%s problem=%s", bundle.digest, problem)
        active = activator.activate(otherwise())
    active.feed.restore()
    return active

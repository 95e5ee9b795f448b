"""Follows the ledger: when another bundle becomes the deployed one, it is verified, loaded aside,
replayed and put in the slot. A bundle that fails leaves the old one serving, and is not tried
again until the ledger's pointer moves; one that failed for its signature also when it is signed.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from edgeloop.bundle import SIGNATURE, Bundle
from edgeloop.errors import LedgerError
from edgeloop.ledger import Deployment, Ledger
from serve.deployments import Deployments
from serve.slot import ActivationError, verify_bundle

logger = logging.getLogger(__name__)

Stamp = tuple[int, int]


def deployed_now(ledger: Ledger, model: str) -> Deployment:
    """What the ledger says is deployed. Raises LedgerError where it says nothing."""
    deployment = ledger.deployed(model)
    if deployment is None:
        raise LedgerError(
            f"nothing is deployed for the model {model!r}; run `edgeloop run` with its recipe "
            "first (with the same EDGELOOP_HOME), or serve a folder with `edgeloop serve PATH`"
        )
    return deployment


class Follower:
    """Polls one model's pointer for as long as `run` runs."""

    def __init__(
        self,
        deployments: Deployments,
        ledger: Ledger,
        served: Deployment,
        public_key: Path | None = None,
    ) -> None:
        self._deployments = deployments
        self._ledger = ledger
        self._seen = served
        self._public_key = public_key
        self._refused_signature: Stamp | None = None
        self._ledger_lost = False

    async def run(self, poll_seconds: Callable[[], float]) -> None:
        """Look every `poll_seconds()` until cancelled."""
        while True:
            await asyncio.sleep(poll_seconds())
            try:
                await self.look()
            except Exception:  # the server keeps what it has; the next poll is another chance
                logger.exception("event=follow_failed")

    async def look(self) -> None:
        """Look once, and swap where the pointer moved."""
        deployment = await self._deployed()
        if deployment is None or not self._is_news(deployment):
            return
        self._seen, self._refused_signature = deployment, None
        if deployment.bundle_digest == self._deployments.slot.current.bundle.digest:
            logger.info("event=already_served bundle=%s", deployment.bundle_digest[:12])
            return
        stamp = _stamp(deployment)  # before the check: what comes after it is news
        try:
            # A rollback finds the bundle from before still loaded.
            await self._deployments.swap(
                deployment.path, "ledger", lambda: self._check(deployment), take_warm=True
            )
        except ActivationError as problem:
            if problem.reason == "signature":
                self._refused_signature = stamp

    def _is_news(self, deployment: Deployment) -> bool:
        """Did the pointer move, or was the bundle signed that was refused for its signature?"""
        if deployment.sequence != self._seen.sequence:
            return True
        refused = self._refused_signature
        return refused is not None and _stamp(deployment) != refused

    async def _deployed(self) -> Deployment | None:
        """The pointer, or None while the ledger cannot be read; said once, not at every poll."""
        try:
            deployment = await asyncio.to_thread(self._ledger.deployed, self._seen.model)
        except LedgerError as problem:
            if not self._ledger_lost:
                logger.error("event=ledger_lost problem=%s", problem)
            self._ledger_lost = True
            return None
        self._ledger_lost = False
        return deployment

    def _check(self, deployment: Deployment) -> Bundle:
        return verify_bundle(
            deployment.path, deployment.model, deployment.bundle_digest, self._public_key
        )


def _stamp(deployment: Deployment) -> Stamp:
    """Tells one signature file from the next; (0, 0) where there is none."""
    try:
        found = (deployment.path / SIGNATURE).stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino

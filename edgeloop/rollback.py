"""Back to the bundle that was served before. Command: `edgeloop rollback`."""

import logging

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import BundleError, LedgerError
from edgeloop.ledger import Deployment, Ledger

logger = logging.getLogger(__name__)


def roll_back(ledger: Ledger, model: str) -> Deployment:
    """Deploy the newest sound bundle from before the present one was deployed first.

    From before its first deployment: after A, B and a rollback to A, B is what was rolled back
    from, and a second rollback must not bring it back. Raises LedgerError where nothing is
    deployed, no earlier bundle is sound, or the deployment changes meanwhile.
    """
    now = ledger.deployed(model)
    if now is None:
        raise LedgerError(f"nothing is deployed for {model}; `edgeloop run` deploys the first")
    for earlier in reversed(_before(ledger.deployments(model), now)):
        bundle = _opened(earlier)
        if bundle is not None:
            reason = f"rollback from {now.bundle_digest[:12]} to number {earlier.sequence}"
            return ledger.promote(model, bundle.digest, bundle.path, reason, expected=now)
    raise LedgerError(
        f"{model} has no earlier bundle to roll back to that opens; see `edgeloop history {model}`"
    )


def _before(history: list[Deployment], now: Deployment) -> list[Deployment]:
    first = min(d.sequence for d in history if d.bundle_digest == now.bundle_digest)
    return [d for d in history if d.sequence < first]


def _opened(deployment: Deployment) -> Bundle | None:
    """The bundle of a deployment; None where it is damaged, gone or another one by now."""
    try:
        bundle = open_bundle(deployment.path)
    except BundleError as problem:
        logger.warning("event=rollback_skips sequence=%d problem=%s", deployment.sequence, problem)
        return None
    if bundle.digest != deployment.bundle_digest:
        logger.warning(
            "event=rollback_skips sequence=%d problem=%s has digest %s, the ledger says %s",
            deployment.sequence,
            deployment.path,
            bundle.digest[:12],
            deployment.bundle_digest[:12],
        )
        return None
    return bundle

"""The model that is deployed before a run, for what must not be forgotten."""

from collections.abc import Callable

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import BundleError
from edgeloop.ledger import Ledger


def deployed_bundle(ledger: Ledger, model: str, say: Callable[[str], None]) -> Bundle | None:
    """What the ledger says is deployed; None where nothing is, or where its folder does not hold
    that bundle any more, which is said."""
    deployment = ledger.deployed(model)
    if deployment is None:
        return None
    try:
        bundle = open_bundle(deployment.path)
    except BundleError as problem:
        say(f"warning: the deployed model counts as none: {problem}")
        return None
    if bundle.digest != deployment.bundle_digest:
        say(f"warning: the deployed model counts as none: {deployment.path} holds another bundle")
        return None
    return bundle

"""Rolling back: to what was served before, and only to a bundle that is whole."""

import logging
import shutil
from pathlib import Path

import pytest

from edgeloop.bundle import MODEL, Bundle
from edgeloop.errors import LedgerError
from edgeloop.ledger import Deployment, Ledger, open_ledger
from edgeloop.rollback import roll_back
from tests import tiny


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture
def bundles(tmp_path: Path) -> list[Bundle]:
    return [tiny.make_bundle(tmp_path / f"bundle-{seed}", seed=seed) for seed in range(3)]


def deploy(ledger: Ledger, bundle: Bundle) -> Deployment:
    return ledger.promote("tiny", bundle.digest, bundle.path, "test")


def test_goes_back_one_bundle_at_a_time_and_never_to_what_was_rolled_back(
    ledger: Ledger, bundles: list[Bundle]
) -> None:
    for bundle in bundles:
        deploy(ledger, bundle)
    back = roll_back(ledger, "tiny")
    assert back.bundle_digest == bundles[1].digest
    assert back.reason == f"rollback from {bundles[2].digest[:12]} to number 2"
    assert ledger.deployed("tiny") == back
    assert roll_back(ledger, "tiny").bundle_digest == bundles[0].digest
    with pytest.raises(LedgerError, match="no earlier bundle"):
        roll_back(ledger, "tiny")
    deployed = ledger.deployed("tiny")
    assert deployed is not None
    assert deployed.bundle_digest == bundles[0].digest


def test_a_bundle_deployed_anew_after_a_rollback_can_be_rolled_back(
    ledger: Ledger, bundles: list[Bundle]
) -> None:
    deploy(ledger, bundles[0])
    deploy(ledger, bundles[1])
    roll_back(ledger, "tiny")
    deploy(ledger, bundles[2])
    assert roll_back(ledger, "tiny").bundle_digest == bundles[0].digest


def test_bundles_that_are_damaged_gone_or_others_by_now_are_skipped(
    ledger: Ledger, bundles: list[Bundle], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deploy(ledger, bundles[0])
    deploy(ledger, bundles[1])
    (bundles[1].path / MODEL).write_bytes(b"damaged")
    gone = tiny.make_bundle(tmp_path / "gone", seed=7)
    deploy(ledger, gone)
    shutil.rmtree(gone.path)
    ledger.promote("tiny", "d" * 64, bundles[0].path, "another digest")
    deploy(ledger, bundles[2])
    with caplog.at_level(logging.WARNING):
        assert roll_back(ledger, "tiny").bundle_digest == bundles[0].digest
    skipped = [r.getMessage() for r in caplog.records if "rollback_skips" in r.getMessage()]
    assert [message.split()[1] for message in skipped] == ["sequence=4", "sequence=3", "sequence=2"]


def test_without_a_sound_earlier_bundle_nothing_moves(
    ledger: Ledger, bundles: list[Bundle]
) -> None:
    with pytest.raises(LedgerError, match="nothing is deployed for tiny"):
        roll_back(ledger, "tiny")
    deploy(ledger, bundles[0])
    now = deploy(ledger, bundles[1])
    shutil.rmtree(bundles[0].path)
    with pytest.raises(LedgerError, match="no earlier bundle to roll back to that opens"):
        roll_back(ledger, "tiny")
    assert ledger.deployed("tiny") == now

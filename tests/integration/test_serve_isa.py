"""A server says when a bundle's figures were taken on a machine with other instructions."""

from pathlib import Path

import httpx
import pytest

from edgeloop.bundle import Bundle
from edgeloop.ledger import open_ledger
from edgeloop.machine import ISA, describe_machine
from tests import tiny
from tests.altered import rewrite_manifest
from tests.edge_server import Server, serving
from tests.integration.test_serve_http import metric
from tests.integration.test_serve_swap import MODEL_NAME, promote, wait_for_digest


def certified(bundle: Bundle, isa: tuple[str, ...]) -> Bundle:
    machine = bundle.manifest.machine.model_copy(update={"isa": isa})
    return rewrite_manifest(bundle, machine=machine)


@pytest.fixture
def own(tmp_path: Path) -> Bundle:
    """Certified on this machine."""
    return certified(tiny.make_bundle(tmp_path / "own"), describe_machine().isa)


@pytest.fixture
def foreign(tmp_path: Path) -> Bundle:
    """Certified where there is every instruction that no machine has together."""
    return certified(tiny.make_bundle(tmp_path / "foreign", seed=1), ISA)


def differs(server: Server) -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_isa_differs")


def test_the_same_instructions_are_not_mentioned(own: Bundle) -> None:
    with serving(bundle=own.path) as server:
        assert differs(server) == 0
        assert server.stop() == 0
    assert "other_isa" not in server.log


def test_a_followed_bundle_of_another_machine_is_served_with_a_warning(
    tmp_path: Path, own: Bundle, foreign: Bundle
) -> None:
    ledger = open_ledger(tmp_path / "home")
    promote(ledger, own)
    with serving(follow=MODEL_NAME, home=tmp_path / "home") as server:
        promote(ledger, foreign)
        wait_for_digest(server, foreign)
        assert differs(server) == 1
        promote(ledger, own)
        wait_for_digest(server, own)
        assert differs(server) == 0
        assert server.stop() == 0
    (line,) = [line for line in server.log.splitlines() if "event=other_isa" in line]
    assert "WARNING" in line
    assert foreign.digest[:12] in line
    assert "lacks" in line

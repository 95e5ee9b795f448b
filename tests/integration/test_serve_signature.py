"""A server that wants signatures: what does not start, what is not swapped in, what is later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeloop.bundle import SIGNATURE, Bundle
from edgeloop.ledger import Ledger, open_ledger
from edgeloop.signing import sign_bundle
from tests import tiny
from tests.altered import rewrite_manifest
from tests.edge_server import serving
from tests.integration.test_serve_swap import (
    MODEL_NAME,
    promote,
    refused_start,
    served_digest,
    swaps,
    wait_for_digest,
    wait_until,
)
from tests.keys import Keys, make_keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture
def first(tmp_path: Path, keys: Keys) -> Bundle:
    return sign_bundle(tiny.make_bundle(tmp_path / "first").path, keys.private)


@pytest.fixture
def second(tmp_path: Path) -> Bundle:
    """Not signed."""
    return tiny.make_bundle(tmp_path / "second", seed=1)


def follow(tmp_path: Path, keys: Keys) -> Any:
    return serving(follow=MODEL_NAME, home=tmp_path / "home", public_key=keys.public)


def unsigned(bundle: Bundle, other: Keys) -> Bundle:
    bundle.file(SIGNATURE).unlink()
    return bundle


def tampered(bundle: Bundle, other: Keys) -> Bundle:
    tiny.make_model(bundle.path, seed=9)
    return rewrite_manifest(bundle)


def wrongly_keyed(bundle: Bundle, other: Keys) -> Bundle:
    return sign_bundle(bundle.path, other.private)


SPOILT = [
    (unsigned, "is not signed"),
    (tampered, "not what was signed"),
    (wrongly_keyed, "signed with another key"),
]
Spoil = Callable[[Bundle, Keys], Bundle]


@pytest.mark.parametrize(("spoil", "says"), SPOILT)
def test_a_bundle_without_a_good_signature_does_not_start(
    first: Bundle, keys: Keys, other_keys: Keys, spoil: Spoil, says: str
) -> None:
    log = refused_start(bundle=spoil(first, other_keys).path, public_key=keys.public)
    (line,) = [line for line in log.splitlines() if not line.startswith("20")]  # the log's lines
    assert says in line
    assert "event=serving" not in log


def test_a_signed_bundle_is_served_and_the_library_leaves_no_trace(
    first: Bundle, keys: Keys
) -> None:
    with serving(bundle=first.path, public_key=keys.public) as server:
        assert served_digest(server) == first.digest
        assert server.stop() == 0
    assert {"model_signing", "sigstore", "cryptography"} & set(server.modules) == set()


def test_a_server_that_asks_for_no_signature_serves_a_signed_bundle(first: Bundle) -> None:
    with serving(bundle=first.path) as server:
        assert served_digest(server) == first.digest


@pytest.mark.parametrize(("spoil", "says"), SPOILT)
def test_a_followed_bundle_without_a_good_signature_leaves_the_old_one_serving(
    tmp_path: Path,
    ledger: Ledger,
    first: Bundle,
    keys: Keys,
    other_keys: Keys,
    spoil: Spoil,
    says: str,
) -> None:
    promote(ledger, first)
    bad = sign_bundle(tiny.make_bundle(tmp_path / "bad", seed=2).path, keys.private)
    bad = spoil(bad, other_keys)
    with follow(tmp_path, keys) as server:
        promote(ledger, bad)
        wait_until(lambda: swaps(server, "signature") == 1)
        assert served_digest(server) == first.digest
        assert httpx.post(f"{server.url}/predict", json={"inputs": "late"}).status_code == 200
        assert server.stop() == 0
    assert "event=swap_refused reason=signature" in server.log
    assert says in server.log


def test_a_promoted_bundle_is_taken_once_it_is_signed(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle, keys: Keys, other_keys: Keys
) -> None:
    promote(ledger, first)
    with follow(tmp_path, keys) as server:
        promote(ledger, second)
        wait_until(lambda: swaps(server, "signature") == 1)
        sign_bundle(second.path, other_keys.private)
        wait_until(lambda: swaps(server, "signature") == 2)
        assert served_digest(server) == first.digest
        sign_bundle(second.path, keys.private)
        wait_for_digest(server, second)
        assert (swaps(server, "signature"), swaps(server, "ok")) == (2, 1)


def test_a_key_file_that_is_lost_refuses_what_comes_next(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle, keys: Keys
) -> None:
    lost = Keys(keys.private, tmp_path / "lost.pem")
    lost.public.write_bytes(keys.public.read_bytes())
    promote(ledger, first)
    with follow(tmp_path, lost) as server:
        lost.public.unlink()
        sign_bundle(second.path, keys.private)
        promote(ledger, second)
        wait_until(lambda: swaps(server, "signature") == 1)
        assert served_digest(server) == first.digest
        assert server.stop() == 0
    assert "lost.pem: the key cannot be read" in server.log

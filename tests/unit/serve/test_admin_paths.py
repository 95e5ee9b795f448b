"""Which bundle folders and which senders the admin listener takes."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Scope

from edgeloop.bundle import MANIFEST
from serve.admin_paths import check_origin, find_bundle
from serve.refused import Refused
from serve.slot import ActivationError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """allowed/good is a bundle's folder, and so is outside."""
    for folder in (tmp_path / "allowed" / "good", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text("{}")
    return tmp_path / "allowed"


def test_a_bundle_in_the_folder_is_found_by_name_and_by_path(root: Path) -> None:
    assert find_bundle("good", root) == root / "good"
    assert find_bundle(str(root / "good"), root) == root / "good"
    (root / "latest").symlink_to("good")
    assert find_bundle("latest", root) == root / "good"


def test_without_a_folder_any_absolute_path_will_do(root: Path) -> None:
    assert find_bundle(str(root.parent / "outside"), None) == root.parent / "outside"
    with pytest.raises(ActivationError, match="relative path"):
        find_bundle("good", None)
    with pytest.raises(ActivationError, match="no bundle here"):
        find_bundle(str(root), None)


@pytest.mark.parametrize("given", ["../outside", "good/../../outside", "/etc", "link", "loop"])
def test_nothing_leads_out_of_the_folder(root: Path, given: str) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to("loop")
    with pytest.raises(ActivationError) as caught:
        find_bundle(given, root)
    assert caught.value.reason == "path"


def test_a_folder_beside_it_with_the_same_beginning_is_outside(root: Path) -> None:
    beside = root.with_name("allowed-not") / "x"
    beside.mkdir(parents=True)
    (beside / MANIFEST).write_text("{}")
    with pytest.raises(ActivationError):
        find_bundle(str(beside), root)


PIECES = st.lists(st.sampled_from(["..", ".", "good", "outside"])).map("/".join)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40) | PIECES)
def test_whatever_is_sent_is_inside_or_refused(root: Path, given: str) -> None:
    with suppress(ActivationError):
        assert find_bundle(given, root).is_relative_to(root)


def scope(host: str, origin: str | None = None, address: str = "127.0.0.1") -> Scope:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    return {"type": "http", "headers": headers, "server": (address, 8081)}


@pytest.mark.parametrize("host", ["127.0.0.1:8081", "localhost:8081", "localhost", "[::1]:8081"])
def test_the_machine_itself_is_let_in(host: str) -> None:
    check_origin(scope(host))
    check_origin(scope(host, f"http://{host}"))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:8081", "http://evil.example"),
        ("127.0.0.1:8081", "null"),
        ("127.0.0.1:8081", "http://127.0.0.1:3000"),
        ("evil.example:8081", None),
        ("evil.example:8081", "http://evil.example:8081"),
        ("127.0.0.1.evil.example", None),
        ("[", None),
        ("", None),
    ],
)
def test_pages_of_other_sites_are_kept_out(host: str, origin: str | None) -> None:
    with pytest.raises(Refused) as caught:
        check_origin(scope(host, origin))
    assert caught.value.status == 403


def test_a_listener_on_another_address_may_have_any_name() -> None:
    check_origin(scope("box.example:8081", address="192.0.2.7"))

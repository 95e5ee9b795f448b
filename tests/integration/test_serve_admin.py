"""The admin listener of real servers: swaps under load, refusals by step, rollback, path rules."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeloop.bundle import Bundle
from edgeloop.ledger import open_ledger
from edgeloop.signing import sign_bundle
from serve.deployments import HISTORY_LENGTH
from serve.keyfile import add_key
from tests import tiny
from tests.altered import break_golden, make_slow, rewrite_manifest
from tests.certificates import Authority
from tests.edge_server import Server, serving
from tests.integration.test_serve_http import metric
from tests.integration.test_serve_swap import (
    MODEL_NAME,
    Load,
    flipped,
    misnamed,
    promote,
    relabelled,
    served_digest,
    swaps,
    truncated,
    wait_for_digest,
    wait_until,
)
from tests.keys import make_keys

SWAPS = 100
ADMIN = {"port": 0}


@pytest.fixture
def server(first: Bundle) -> Iterator[Server]:
    with serving(bundle=first.path, admin=ADMIN) as running:
        yield running


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all that must not change what it serves."""
    bundle = tiny.make_bundle(tmp_path_factory.mktemp("steady") / "bundle")
    with serving(bundle=bundle.path, admin=ADMIN) as running:
        digest = served_digest(running)
        yield running
        assert served_digest(running) == digest == bundle.digest
        assert running.stop() == 0
        assert "Traceback" not in running.log


def post(server: Server, route: str, body: Any = None, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.admin}{route}", json=body, headers=headers, timeout=30.0)


def swap(server: Server, bundle: Bundle) -> httpx.Response:
    return post(server, "/admin/bundles", {"path": str(bundle.path)})


def shown(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.admin}/admin/bundles").json()
    return found


def rollbacks(server: Server, reason: str = "asked") -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_rollbacks_total", reason=reason)


def test_many_swaps_under_load_fail_no_request(
    server: Server, first: Bundle, second: Bundle
) -> None:
    with Load(server, clients=3) as load:
        for i in range(SWAPS):
            bundle = second if i % 2 == 0 else first
            answer = swap(server, bundle)
            assert (answer.status_code, answer.json()) == (
                200,
                {"digest": bundle.digest, "swapped": True},
            )
        load.wait_for_more(len(load.answers) + 20)
    assert swaps(server, "ok") == SWAPS
    history = shown(server)["history"]
    assert [line["digest"] for line in history[:2]] == [first.digest, second.digest]
    assert len(history) == HISTORY_LENGTH
    assert server.stop() == 0
    assert load.failures == []
    assert {answer.status_code for answer in load.answers} == {200}
    labels = {b.digest: sorted(b.manifest.labels) for b in (first, second)}
    for answer in load.answers:
        told = sorted(row["label"] for row in answer.json())
        assert told == labels[answer.headers["x-edgeloop-bundle"]]
    assert {a.headers["x-edgeloop-bundle"] for a in load.answers} == set(labels)


def too_slow(bundle: Bundle) -> Bundle:
    return rewrite_manifest(make_slow(bundle), deadline_ms=1)


@pytest.mark.parametrize(
    ("spoil", "step"),
    [
        (flipped, "verify"),
        (misnamed, "verify"),
        (truncated, "load"),
        (break_golden, "golden"),
        (relabelled, "golden"),
        (too_slow, "latency"),
    ],
)
def test_a_bundle_that_fails_a_step_leaves_the_old_one(
    tmp_path: Path, steady: Server, spoil: Callable[[Bundle], Bundle], step: str
) -> None:
    bad = spoil(tiny.make_bundle(tmp_path / "bad", seed=2))
    serves, counted = served_digest(steady), swaps(steady, step)
    answer = swap(steady, bad)
    assert answer.status_code == 422
    assert answer.json()["step"] == step
    assert str(bad.path) in answer.json()["error"]
    assert served_digest(steady) == serves
    assert swaps(steady, step) == counted + 1
    line = shown(steady)["history"][0]
    assert (line["outcome"], line["source"], line["path"]) == (step, "admin", str(bad.path))
    assert httpx.post(f"{steady.url}/predict", json={"inputs": "a leak"}).status_code == 200


def test_the_cache_hides_no_latency(tmp_path: Path, first: Bundle) -> None:
    with serving(bundle=first.path, admin=ADMIN, cache_texts=1000) as server:
        slow = too_slow(tiny.make_bundle(tmp_path / "slow", seed=2))
        assert swap(server, slow).json()["step"] == "latency"


def test_an_unsigned_bundle_is_refused_where_signatures_are_wanted(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    keys = make_keys(tmp_path / "keys")
    sign_bundle(first.path, keys.private)
    with serving(bundle=first.path, admin=ADMIN, public_key=keys.public) as server:
        assert swap(server, second).json()["step"] == "signature"
        sign_bundle(second.path, keys.private)
        assert swap(server, second).status_code == 200


def test_the_bundle_that_answers_already_is_not_loaded_again(steady: Server) -> None:
    found = shown(steady)
    answer = post(steady, "/admin/bundles", {"path": found["current"]["path"]})
    assert answer.json() == {"digest": found["current"]["digest"], "swapped": False}
    assert shown(steady)["history"] == found["history"]


def test_rollback_goes_back_at_once_and_forth_again(
    server: Server, first: Bundle, second: Bundle
) -> None:
    assert post(server, "/admin/rollback").json()["step"] == "previous"
    swap(server, second)
    assert shown(server)["previous"]["digest"] == first.digest
    assert post(server, "/admin/rollback").json() == {"digest": first.digest}
    assert served_digest(server) == first.digest
    assert post(server, "/admin/rollback").json() == {"digest": second.digest}
    assert rollbacks(server) == 2
    assert [line["kind"] for line in shown(server)["history"]] == ["rollback", "rollback", "swap"]


def test_without_a_kept_previous_there_is_no_rollback(first: Bundle, second: Bundle) -> None:
    with serving(bundle=first.path, admin=ADMIN, keep_previous=False) as server:
        swap(server, second)
        assert shown(server)["previous"] is None
        answer = post(server, "/admin/rollback")
        assert (answer.status_code, answer.json()["step"]) == (409, "previous")
        assert served_digest(server) == second.digest


def test_only_one_bundle_is_activated_at_a_time(
    tmp_path: Path, server: Server, second: Bundle
) -> None:
    slow = make_slow(tiny.make_bundle(tmp_path / "slow", seed=3))
    background = threading.Thread(target=swap, args=(server, slow))
    background.start()
    wait_until(lambda: bool(shown(server)["busy"]))
    answer = swap(server, second)
    assert (answer.status_code, answer.json()["step"]) == (409, "busy")
    assert post(server, "/admin/rollback").status_code == 409
    background.join()
    assert served_digest(server) == slow.digest
    assert swaps(server, "busy") == 1


def test_bundles_outside_of_the_allowed_folder_are_refused(tmp_path: Path, first: Bundle) -> None:
    allowed = tmp_path / "allowed"
    inside = tiny.make_bundle(allowed / "good", seed=4)
    outside = tiny.make_bundle(tmp_path / "outside", seed=5)
    (allowed / "link").symlink_to(outside.path)
    (allowed / "file").write_text("no bundle")
    with serving(bundle=first.path, admin={**ADMIN, "bundles": str(allowed)}) as server:
        bad = [str(outside.path), "../outside", "link", "/etc", "none", "file", "", ".", "a\0b"]
        for path in bad:
            answer = post(server, "/admin/bundles", {"path": path})
            assert (answer.status_code, answer.json()["step"]) == (422, "path"), path
        assert swaps(server, "path") == len(bad)
        assert post(server, "/admin/bundles", {"path": "good"}).json()["digest"] == inside.digest


@pytest.mark.parametrize(
    "body", [None, [], {}, {"path": 1}, {"path": "a", "force": True}, {"path": "relative"}]
)
def test_other_bodies_change_nothing(steady: Server, body: Any) -> None:
    assert post(steady, "/admin/bundles", body).status_code in (400, 422)


def test_a_page_of_another_site_changes_nothing(steady: Server) -> None:
    origin = {"origin": "http://evil.example"}
    assert post(steady, "/admin/rollback", None, **origin).status_code == 403
    assert post(steady, "/admin/rollback", None, host="evil.example").status_code == 403
    assert post(steady, "/admin/rollback", None, origin=steady.admin).status_code == 409


def test_the_ledger_decides_where_it_is_followed(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    ledger = open_ledger(tmp_path / "home")
    promote(ledger, first)
    with serving(follow=MODEL_NAME, home=tmp_path / "home", admin=ADMIN) as server:
        for answer in (swap(server, second), post(server, "/admin/rollback")):
            assert (answer.status_code, answer.json()["step"]) == (409, "ledger")
            assert "edgeloop rollback" in answer.json()["error"]
        body = {"path": str(second.path), "promote": True}
        assert post(server, "/admin/canary", body).status_code == 409
        assert served_digest(server) == first.digest
        for bundle in (second, first):  # and back: the first is still loaded
            promote(ledger, bundle)
            wait_for_digest(server, bundle)
        assert [line["source"] for line in shown(server)["history"]] == ["ledger", "ledger"]
        assert server.stop() == 0
    assert server.log.count("event=bundle_ready") == 2


def test_an_oip_client_loads_by_path_and_cannot_unload(
    server: Server, first: Bundle, second: Bundle
) -> None:
    route = f"/v2/repository/models/{MODEL_NAME}"
    assert post(server, f"{route}/load").status_code == 200
    assert served_digest(server) == first.digest
    body = {"parameters": {"path": str(second.path)}}
    assert post(server, f"{route}/load", body).status_code == 200
    assert served_digest(server) == second.digest
    answer = post(server, f"{route}/unload")
    assert (answer.status_code, answer.json()["step"]) == (422, "unload")
    config = {"parameters": {"config": "{}"}}
    assert post(server, f"{route}/load", config).status_code == 422
    assert post(server, "/v2/repository/models/other/load", body).status_code == 404


def test_with_keys_every_admin_route_needs_one_of_the_scope_admin(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    file = tmp_path / "keys.json"
    admin, other = (
        {"authorization": f"Bearer {add_key(file, scope, (scope,))}"}
        for scope in ("admin", "predict")
    )
    with serving(bundle=first.path, admin=ADMIN, keys={"file": str(file)}) as server:
        for route in ("/admin/bundles", "/admin/rollback", "/none", "/health"):
            assert post(server, route).status_code == 401
            assert post(server, route, None, **other).status_code == 403
        body = {"path": str(second.path)}
        assert post(server, "/admin/bundles", body, **admin).status_code == 200
        assert httpx.get(f"{server.admin}/admin/bundles", headers=admin).status_code == 200


def test_with_tls_the_admin_listener_is_encrypted_too(tmp_path: Path, first: Bundle) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = {"certificate": str(pair.certificate), "key": str(pair.key)}
    with serving(bundle=first.path, admin=ADMIN, tls=tls) as server:
        assert server.admin.startswith("https://127.0.0.1:")
        found = httpx.get(f"{server.admin}/admin/bundles", verify=authority.client())
        assert found.json()["current"]["digest"] == first.digest
        assert server.stop() == 0


def test_the_admin_routes_are_not_public(steady: Server) -> None:
    assert httpx.get(f"{steady.url}/admin/bundles").status_code == 404
    assert httpx.post(f"{steady.url}/admin/rollback").status_code == 404
    assert httpx.get(f"{steady.admin}/admin/rollback").status_code == 405
    assert httpx.get(f"{steady.admin}/health").status_code == 404


def test_a_signal_drains_both_listeners_and_lets_a_swap_finish(
    tmp_path: Path, server: Server
) -> None:
    slow = make_slow(tiny.make_bundle(tmp_path / "slow", seed=3))
    answers: list[httpx.Response] = []
    background = threading.Thread(target=lambda: answers.append(swap(server, slow)))
    background.start()
    wait_until(lambda: bool(shown(server)["busy"]))
    assert server.stop() == 0
    background.join()
    assert [answer.status_code for answer in answers] == [200]
    assert "Traceback" not in server.log


def test_what_is_loaded_is_shown(steady: Server) -> None:
    found = shown(steady)
    assert found["current"]["digest"] == served_digest(steady)
    assert found["current"]["healthy"]
    assert (found["previous"], found["canary"], found["shadow"]) == (None, None, None)
    assert found["busy"] is False

"""Canary and shadow on real servers: who gets which, and what becomes of good and bad ones."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeloop.bundle import Bundle
from tests import tiny
from tests.altered import break_golden, make_nan, rewrite_manifest
from tests.edge_server import Server, serving
from tests.integration.test_serve_admin import ADMIN, post, rollbacks, shown, swap
from tests.integration.test_serve_http import metric
from tests.integration.test_serve_swap import served_digest, wait_until

CLIENTS = [f"client-{number}" for number in range(24)]
# Timing on a shared machine is no test's business: only what is many times slower is judged.
TRIAL = {"share": 0.5, "least_answers": 100, "latency_ratio": 100.0, "error_margin": 0.2}


@pytest.fixture
def stable(tmp_path: Path) -> Bundle:
    return tiny.make_bundle(tmp_path / "stable")


@pytest.fixture
def alike(tmp_path: Path) -> Bundle:
    """Another bundle with the same answers."""
    return rewrite_manifest(tiny.make_bundle(tmp_path / "alike"), candidate="another")


@pytest.fixture
def contrary(tmp_path: Path) -> Bundle:
    """Sound in itself, and of another opinion on every text."""
    bundle = break_golden(tiny.make_bundle(tmp_path / "contrary"))
    first, *others = bundle.manifest.labels
    return rewrite_manifest(bundle, labels=(*others, first))


@pytest.fixture
def failing(tmp_path: Path) -> Bundle:
    """Answers its golden rows, and fails at any unknown word."""
    return make_nan(tiny.make_bundle(tmp_path / "failing"))


@pytest.fixture
def server(stable: Bundle) -> Iterator[Server]:
    with serving(bundle=stable.path, admin=ADMIN) as running:
        yield running


def put(server: Server, variant: str, bundle: Bundle, **changes: Any) -> dict[str, Any]:
    body = {"path": str(bundle.path), **TRIAL, **changes}
    answer = post(server, f"/admin/{variant}", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ask(http: httpx.Client, client: str, text: str = "the pump is broken") -> httpx.Response:
    return http.post("/predict", json={"inputs": text}, headers={"x-client-id": client})


def round_of(http: httpx.Client, texts: list[str]) -> list[httpx.Response]:
    return [ask(http, CLIENTS[i % len(CLIENTS)], text) for i, text in enumerate(texts)]


def texts(count: int, seed: int = 0) -> list[str]:
    return [text for text, _ in tiny.sentences(count, seed)]


def ask_until_over(server: Server, variant: str, some: list[str]) -> list[httpx.Response]:
    """Traffic until the trial has ended."""
    answers: list[httpx.Response] = []
    with httpx.Client(base_url=server.url) as http:
        for _ in range(60):
            answers += round_of(http, some)
            if shown(server)[variant] is None:
                return answers
    raise AssertionError(shown(server))


def last(server: Server) -> tuple[str, str, str]:
    line = shown(server)["history"][0]
    return line["kind"], line["outcome"], line["reason"]


def test_a_client_stays_with_its_variant_and_the_digest_says_which(
    server: Server, stable: Bundle, alike: Bundle
) -> None:
    put(server, "canary", alike, least_answers=10_000)
    with httpx.Client(base_url=server.url) as http:
        seen = {
            client: {ask(http, client, t).headers["x-edgeloop-bundle"] for t in texts(5)}
            for client in CLIENTS
        }
        assert all(len(digests) == 1 for digests in seen.values())
        ours = sum(digests == {alike.digest} for digests in seen.values())
        assert 3 <= ours <= 21  # of 24 at a share of one half
        counted = {
            variant: metric(
                http, "edgeloop_requests_total", variant=variant, route="/predict", code="200"
            )
            for variant in ("stable", "canary")
        }
        assert counted == {"stable": 5 * (24 - ours), "canary": 5 * ours}
        assert metric(http, "edgeloop_model_info", variant="canary") == 1
        again = {ask(http, c).headers["x-edgeloop-bundle"] for c in ["one"] * 5}
        assert len(again) == 1


def test_a_canary_that_is_fine_is_promoted_where_that_is_wanted(
    server: Server, stable: Bundle, alike: Bundle
) -> None:
    put(server, "canary", alike, promote=True)
    answers = ask_until_over(server, "canary", texts(200))
    assert {answer.status_code for answer in answers} == {200}
    assert served_digest(server) == alike.digest
    assert last(server)[:2] == ("canary", "promoted")
    assert shown(server)["previous"]["digest"] == stable.digest
    assert post(server, "/admin/rollback").json()["digest"] == stable.digest
    with httpx.Client(base_url=server.url) as http:
        ask(http, "one")
        assert metric(http, "edgeloop_swaps_total", reason="ok") == 1
        assert metric(http, "edgeloop_trial_evidence", variant="canary", question="fine") == 0


def test_a_canary_that_is_fine_waits_where_it_may_not_be_promoted(
    server: Server, stable: Bundle, alike: Bundle
) -> None:
    put(server, "canary", alike)
    with httpx.Client(base_url=server.url) as http:
        for _ in range(60):
            round_of(http, texts(200))
            if shown(server)["canary"]["passed"]:
                break
        found = shown(server)["canary"]
        assert found["passed"]
        assert found["fine"] >= found["needed_evidence"] == pytest.approx(20.0)
        assert metric(http, "edgeloop_trial_evidence", variant="canary", question="fine") >= 20
        assert metric(http, "edgeloop_trial_compared_texts", variant="canary") >= 100
    assert served_digest(server) == stable.digest
    assert swap(server, alike).json()["swapped"]  # the operator's decision
    assert shown(server)["canary"] is None
    assert last(server)[1] == "ended"


def test_a_canary_of_another_opinion_is_rolled_back(
    server: Server, stable: Bundle, contrary: Bundle
) -> None:
    put(server, "canary", contrary, promote=True)
    answers = ask_until_over(server, "canary", texts(50))
    assert {answer.status_code for answer in answers} == {200}
    assert last(server) == ("canary", "rolled_back", "agreement")
    assert rollbacks(server, "agreement") == 1
    with httpx.Client(base_url=server.url) as http:
        found = {a.headers["x-edgeloop-bundle"] for a in round_of(http, texts(48))}
    assert found == {stable.digest}


def test_a_canary_that_fails_is_rolled_back(server: Server, failing: Bundle) -> None:
    put(server, "canary", failing)
    answers = ask_until_over(server, "canary", ["an unheard word"] * 24)
    assert {answer.status_code for answer in answers} == {200, 424}
    assert last(server) == ("canary", "rolled_back", "errors")
    assert rollbacks(server, "errors") == 1
    with httpx.Client(base_url=server.url) as http:
        codes = {a.status_code for a in round_of(http, ["an unheard word"] * 24)}
    assert codes == {200}


def test_a_shadow_is_never_heard_and_a_bad_one_ends(
    server: Server, stable: Bundle, contrary: Bundle
) -> None:
    put(server, "shadow", contrary, share=1.0)
    answers = ask_until_over(server, "shadow", texts(50))
    assert {a.headers["x-edgeloop-bundle"] for a in answers} == {stable.digest}
    assert last(server) == ("shadow", "rolled_back", "agreement")
    assert rollbacks(server, "agreement") == 0  # nobody was served by it
    with httpx.Client(base_url=server.url) as http:
        lines = http.get("/metrics").text
        assert 'edgeloop_inference_seconds_count{model="tiny",variant="shadow"}' in lines


def test_a_failing_shadow_fails_no_request(server: Server, failing: Bundle) -> None:
    put(server, "shadow", failing, share=1.0)
    answers = ask_until_over(server, "shadow", ["an unheard word"] * 20)
    assert {answer.status_code for answer in answers} == {200}
    assert last(server) == ("shadow", "rolled_back", "errors")


def test_trials_are_asked_for_and_ended_by_hand(
    server: Server, stable: Bundle, alike: Bundle, contrary: Bundle
) -> None:
    assert httpx.delete(f"{server.admin}/admin/canary").status_code == 404
    put(server, "canary", alike)
    put(server, "shadow", contrary)
    found = shown(server)
    assert (found["canary"]["digest"], found["shadow"]["digest"]) == (
        alike.digest,
        contrary.digest,
    )
    put(server, "canary", contrary)
    assert shown(server)["canary"]["digest"] == contrary.digest
    assert httpx.delete(f"{server.admin}/admin/canary").json() == {"ended": "canary"}
    assert shown(server)["canary"] is None
    same = post(server, "/admin/canary", {"path": str(stable.path)})
    assert (same.status_code, same.json()["step"]) == (422, "verify")
    for body in ({}, {"path": str(alike.path), "share": 2}, {"path": str(alike.path), "x": 1}):
        assert post(server, "/admin/canary", body).status_code == 422
    assert post(server, "/admin/other", {"path": str(alike.path)}).status_code == 404
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_serve_yaml_starts_a_trial_and_sighup_ends_it(
    tmp_path: Path, stable: Bundle, alike: Bundle
) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("admin: {port: 0}\ncanary: {bundle: alike, share: 0.5}\n")
    with serving(bundle=stable.path, config_file=config) as server:
        wait_until(lambda: shown(server)["canary"] is not None)
        assert shown(server)["canary"]["digest"] == alike.digest
        config.write_text("admin: {port: 0}\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: shown(server)["canary"] is None)
        assert served_digest(server) == stable.digest
        assert server.stop() == 0


def test_a_canary_that_cannot_start_costs_nothing(tmp_path: Path, stable: Bundle) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text("admin: {port: 0}\ncanary: {bundle: nowhere}\n")
    with serving(bundle=stable.path, config_file=config) as server:
        wait_until(lambda: bool(shown(server)["history"]))
        assert last(server)[:2] == ("canary", "verify")
        assert served_digest(server) == stable.digest


def test_a_canary_that_was_rolled_back_is_not_tried_again_at_the_next_start(
    tmp_path: Path, stable: Bundle, contrary: Bundle
) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(
        "admin: {port: 0}\nstate: state\n"
        "canary: {bundle: contrary, share: 0.5, latency_ratio: 100}\n"
    )
    with serving(bundle=stable.path, config_file=config) as server:
        wait_until(lambda: shown(server)["canary"] is not None)
        ask_until_over(server, "canary", texts(50))
        wait_until(lambda: contrary.digest in (tmp_path / "state" / "served.json").read_text())
        server.process.kill()
        server.process.communicate(timeout=10)
    with serving(bundle=stable.path, config_file=config) as server:
        wait_until(lambda: bool(shown(server)["history"]))
        assert "rolled back before" in last(server)[2]

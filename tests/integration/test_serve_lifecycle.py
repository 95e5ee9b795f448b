"""SIGHUP, the watched folder, and what a server remembers over kill -9, with real processes."""

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeloop.bundle import MODEL, Bundle
from tests import tiny
from tests.altered import break_golden, flip_byte
from tests.edge_server import Server, serving
from tests.integration.test_serve_admin import ADMIN, post, shown, swap
from tests.integration.test_serve_swap import (
    Load,
    refused_start,
    served_digest,
    swaps,
    wait_for_digest,
    wait_until,
)

POLLS_SECONDS = 0.4
TICK = {"state_seconds": 0.05}


def ask(server: Server, *texts: str) -> None:
    for text in texts:
        assert httpx.post(f"{server.url}/predict", json={"inputs": text}).status_code == 200


def drift(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.url}/drift").json()
    return found


def kill(server: Server) -> None:
    server.process.kill()
    server.process.communicate(timeout=10)


# SIGHUP


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_sighup_changes_what_can_be_changed(tmp_path: Path, first: Bundle) -> None:
    config = write(tmp_path / "serve.yaml", "queue_texts: 512", "drain_seconds: 0")
    with serving(bundle=first.path, config_file=config) as server:
        batch = {"inputs": [["one"], ["two"], ["three"]]}
        assert httpx.post(f"{server.url}/predict", json=batch).status_code == 200
        write(config, "queue_texts: 2", "drain_seconds: 0.1", "admin: {port: 1}")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: httpx.post(f"{server.url}/predict", json=batch).status_code == 422)
        write(config, "queue_texts: none", "pol_seconds: 3")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(1.0)
        assert httpx.post(f"{server.url}/predict", json=batch).status_code == 422
        assert server.stop() == 0
    assert "event=setting_ignored key=admin" in server.log
    assert server.log.count("event=reload_refused") == 2
    assert "event=draining seconds=0.1" in server.log


def test_sighup_under_load_fails_no_request(tmp_path: Path, first: Bundle) -> None:
    config = write(tmp_path / "serve.yaml", "queue_texts: 512")
    with serving(bundle=first.path, config_file=config) as server:
        with Load(server) as load:
            for texts in range(500, 510):
                write(config, f"queue_texts: {texts}")
                server.process.send_signal(signal.SIGHUP)
                load.wait_for_more(len(load.answers) + 20)
        assert server.stop() == 0
    assert load.failures == []
    assert {answer.status_code for answer in load.answers} == {200}
    assert "queue_texts" in server.log


def test_sighup_without_a_file_is_survived(first: Bundle) -> None:
    with serving(bundle=first.path) as server:
        server.process.send_signal(signal.SIGHUP)
        ask(server, "a leak")
        assert server.stop() == 0
    assert "event=reload_ignored" in server.log


# The watched folder


def put(bundle: Bundle, folder: Path) -> Path:
    """Copy a bundle in, its manifest last, as a slow copy would."""
    folder.mkdir(parents=True)
    for file in sorted(bundle.path.iterdir(), key=lambda p: p.name == "manifest.json"):
        shutil.copy(file, folder / file.name)
    return folder


def test_the_last_complete_bundle_of_the_folder_is_served(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    with serving(bundle=first.path, watch=str(watched)) as server:
        put(second, watched / "2026-11-02")
        wait_for_digest(server, second)
        put(first, watched / "2026-11-01")  # older by name
        half = watched / "2026-11-03"
        half.mkdir()
        shutil.copy(first.file("manifest.json"), half)
        (watched / "2026-11-04.txt").write_text("no bundle")
        put(first, watched / ".2026-11-05")
        time.sleep(POLLS_SECONDS)
        assert served_digest(server) == second.digest
        for file in first.path.iterdir():  # the copy is complete now
            shutil.copy(file, half)
        wait_for_digest(server, first)
        assert server.stop() == 0
    assert "source=watch" in server.log


def test_a_failing_bundle_in_the_folder_is_tried_again_when_it_changes(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    watched = tmp_path / "watched"
    broken = put(second, watched / "b")
    flip_byte(broken / MODEL)
    with serving(bundle=first.path, watch=str(watched)) as server:
        wait_until(lambda: swaps(server, "verify") == 1)
        time.sleep(POLLS_SECONDS)
        assert swaps(server, "verify") == 1
        assert served_digest(server) == first.digest
        shutil.copy(second.file(MODEL), broken / MODEL)
        wait_for_digest(server, second)


def test_a_missing_folder_is_waited_for(tmp_path: Path, first: Bundle, second: Bundle) -> None:
    watched = tmp_path / "later"
    with serving(bundle=first.path, watch=str(watched)) as server:
        time.sleep(POLLS_SECONDS)
        put(second, watched / "b")
        wait_for_digest(server, second)
        assert server.stop() == 0
    assert server.log.count("event=watch_lost") == 1


def test_a_rollback_stands_until_the_folder_changes(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    options: dict[str, Any] = {
        "bundle": first.path,
        "admin": ADMIN,
        "watch": str(tmp_path / "watched"),
        "state": str(tmp_path / "state"),
    }
    put(second, tmp_path / "watched" / "a")
    with serving(**options) as server:
        wait_for_digest(server, second)
        assert post(server, "/admin/rollback").status_code == 200
        time.sleep(POLLS_SECONDS)
        assert served_digest(server) == first.digest
        kill(server)
    with serving(**options) as server:
        time.sleep(POLLS_SECONDS)
        assert served_digest(server) == first.digest
        third = tiny.make_bundle(tmp_path / "watched" / "c", seed=7)
        wait_for_digest(server, third)


# State


def wait_for_observations(server: Server, count: int) -> None:
    wait_until(lambda: bool(drift(server)["observations"] == count))


def test_after_a_kill_the_drift_monitor_goes_on(tmp_path: Path, first: Bundle) -> None:
    options: dict[str, Any] = {"bundle": first.path, "state": str(tmp_path / "state"), **TICK}
    with serving(**options) as server:
        ask(server, "one", "sound the alarm", "two")
        wait_for_observations(server, 3)
        verdict = drift(server)["verdict"]
        assert verdict is not None
        time.sleep(POLLS_SECONDS)  # some ticks
        kill(server)
    with serving(**options) as server:
        found = drift(server)
        assert (found["observations"], found["verdict"]) == (3, verdict)
        ask(server, "three")
        wait_for_observations(server, 4)
        assert server.stop() == 0
    assert "event=state_restored" in server.log
    with serving(**options) as server:  # a stop saves the rest
        assert drift(server)["observations"] == 4


def test_a_damaged_state_starts_anew_and_is_kept_for_a_look(tmp_path: Path, first: Bundle) -> None:
    state = tmp_path / "state"
    options: dict[str, Any] = {"bundle": first.path, "state": str(state), **TICK}
    with serving(**options) as server:
        ask(server, "one")
        assert server.stop() == 0
    (path,) = state.glob("drift-*.bin")
    flip_byte(path)
    with serving(**options) as server:
        assert drift(server)["observations"] == 0
        assert server.stop() == 0
    assert "event=state_set_aside" in server.log
    assert path.with_name(f"{path.name}.damaged").exists()


def test_the_swapped_bundle_is_served_again_after_a_kill(
    tmp_path: Path, first: Bundle, second: Bundle
) -> None:
    options: dict[str, Any] = {"admin": ADMIN, "state": str(tmp_path / "state")}
    with serving(bundle=first.path, **options) as server:
        assert swap(server, second).status_code == 200
        kill(server)
    with serving(bundle=first.path, **options) as server:
        assert served_digest(server) == second.digest
        assert shown(server)["previous"] is None
        kill(server)
    third = tiny.make_bundle(tmp_path / "third", seed=8)
    with serving(bundle=third.path, **options) as server:  # the command line names another
        assert served_digest(server) == third.digest
        kill(server)
    with serving(bundle=first.path, **options) as server:
        assert served_digest(server) == first.digest


@pytest.mark.parametrize("how", ["gone", "golden"])
def test_a_remembered_bundle_that_cannot_serve_gives_way(
    tmp_path: Path, first: Bundle, second: Bundle, how: str
) -> None:
    options: dict[str, Any] = {"admin": ADMIN, "state": str(tmp_path / "state")}
    with serving(bundle=first.path, **options) as server:
        swap(server, second)
        kill(server)
    if how == "gone":
        shutil.rmtree(second.path)
    else:
        break_golden(second)
    with serving(bundle=first.path, **options) as server:
        assert served_digest(server) == first.digest
        assert server.stop() == 0
    assert "event=remembered_not_served" in server.log


def test_two_servers_cannot_share_a_state_folder(tmp_path: Path, first: Bundle) -> None:
    state = str(tmp_path / "state")
    with serving(bundle=first.path, state=state):
        assert "another server" in refused_start(bundle=first.path, state=state)

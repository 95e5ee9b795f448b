"""Which bundles may serve, and the swap from one to the next under load."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgeloop.bundle import MODEL, Bundle
from edgeloop.ledger import Ledger, open_ledger
from tests import tiny
from tests.altered import break_golden, flip_byte, rewrite_manifest
from tests.edge_server import Server, launch, serving
from tests.integration.test_serve_http import metric

MODEL_NAME = "tiny"
CLIENTS = 8
WAIT_SECONDS = 30.0


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


def follow(tmp_path: Path) -> Any:
    return serving(follow=MODEL_NAME, home=tmp_path / "home")


def promote(ledger: Ledger, bundle: Bundle) -> None:
    ledger.promote(MODEL_NAME, bundle.digest, bundle.path, "test")


def served_digest(server: Server) -> str:
    return str(httpx.get(f"{server.url}/info").json()["bundle_digest"])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)


def wait_for_digest(server: Server, bundle: Bundle) -> None:
    wait_until(lambda: served_digest(server) == bundle.digest)


def swaps(server: Server, reason: str) -> float:
    with httpx.Client(base_url=server.url) as http:
        return metric(http, "edgeloop_swaps_total", reason=reason)


class Load:
    """Threads that ask without a pause and keep what they are told."""

    def __init__(self, server: Server, clients: int = CLIENTS) -> None:
        self.answers: list[httpx.Response] = []
        self.failures: list[Exception] = []
        self._url = f"{server.url}/predict"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT_SECONDS)

    def wait_for_more(self, count: int) -> None:
        """Until more than `count` requests were answered."""
        wait_until(lambda: len(self.answers) > count)

    def _ask(self) -> None:
        texts = [text for text, _ in tiny.sentences(50)]
        with httpx.Client(timeout=WAIT_SECONDS) as client:
            while not self._stop.is_set():
                for text in texts:
                    try:
                        self.answers.append(client.post(self._url, json={"inputs": text}))
                    except httpx.HTTPError as problem:
                        self.failures.append(problem)


def test_swaps_under_load_fail_no_request(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle
) -> None:
    promote(ledger, first)
    with follow(tmp_path) as server:
        with Load(server) as load:
            for bundle in (second, first, second):
                seen = len(load.answers)
                promote(ledger, bundle)
                wait_for_digest(server, bundle)
                load.wait_for_more(seen + 100)
        assert swaps(server, "ok") == 3
        assert server.stop() == 0
    assert load.failures == []
    assert {answer.status_code for answer in load.answers} == {200}
    labels = {b.digest: sorted(b.manifest.labels) for b in (first, second)}
    for answer in load.answers:
        told = sorted(row["label"] for row in answer.json())
        assert told == labels[answer.headers["x-edgeloop-bundle"]]
    assert {a.headers["x-edgeloop-bundle"] for a in load.answers} == set(labels)


def test_the_observer_and_the_info_metric_are_swapped_too(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle
) -> None:
    promote(ledger, first)
    with follow(tmp_path) as server, httpx.Client(base_url=server.url) as http:
        http.post("/predict", json={"inputs": "sound the alarm"})
        wait_until(lambda: http.get("/drift").json()["verdict"] is not None)
        promote(ledger, second)
        wait_for_digest(server, second)
        drift = http.get("/drift").json()
        assert (drift["observations"], drift["verdict"]) == (0, None)
        assert drift["bundle_digest"] == second.digest
        info = [line for line in http.get("/metrics").text.splitlines() if "model_info{" in line]
        assert len(info) == 1
        assert second.digest in info[0]
        assert metric(http, "edgeloop_predictions_total", **{"class": "warranty"}) == 0
        row = {"id": "1", "text": "broken after a month", "label": "warranty"}
        assert http.post("/feedback", json=row).status_code == 200


def flipped(bundle: Bundle) -> Bundle:
    flip_byte(bundle.file(MODEL))
    return bundle


def truncated(bundle: Bundle) -> Bundle:
    """A model that was cut before the manifest was made: hashes fit, the file does not load."""
    data = bundle.file(MODEL).read_bytes()
    bundle.file(MODEL).write_bytes(data[: len(data) // 2])
    return rewrite_manifest(bundle)


def misnamed(bundle: Bundle) -> Bundle:
    return rewrite_manifest(bundle, name="another")


def relabelled(bundle: Bundle) -> Bundle:
    """The labels in another order: not what the golden rows promise."""
    return rewrite_manifest(bundle, labels=tuple(reversed(bundle.manifest.labels)))


def overlabelled(bundle: Bundle) -> Bundle:
    """One label more than the model has classes."""
    return rewrite_manifest(bundle, labels=(*bundle.manifest.labels, "warranty"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flipped, "verify"),
        (misnamed, "verify"),
        (truncated, "load"),
        (break_golden, "golden"),
        (relabelled, "golden"),
    ],
)
def test_a_bad_bundle_leaves_the_old_one_serving(
    tmp_path: Path,
    ledger: Ledger,
    first: Bundle,
    second: Bundle,
    spoil: Callable[[Bundle], Bundle],
    reason: str,
) -> None:
    promote(ledger, first)
    bad = spoil(tiny.make_bundle(tmp_path / "bad", seed=2))
    with follow(tmp_path) as server:
        with Load(server) as load:
            promote(ledger, bad)
            wait_until(lambda: swaps(server, reason) == 1)
            seen = len(load.answers)
            load.wait_for_more(seen + 100)
        assert served_digest(server) == first.digest
        promote(ledger, second)  # the pointer moves: the next bundle gets its chance
        wait_for_digest(server, second)
        assert swaps(server, reason) == 1  # the bad one was tried once only
        assert server.stop() == 0
    assert load.failures == []
    assert {a.headers["x-edgeloop-bundle"] for a in load.answers} == {first.digest}
    assert f"reason={reason}" in server.log


def test_a_replaced_folder_is_not_what_was_deployed(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle
) -> None:
    promote(ledger, first)
    with follow(tmp_path) as server:
        ledger.promote(MODEL_NAME, "0" * 64, second.path, "test")
        wait_until(lambda: swaps(server, "verify") == 1)
        assert served_digest(server) == first.digest
        assert server.stop() == 0
    assert "the ledger deployed 0000" in server.log


def test_the_same_bundle_again_is_no_swap(
    tmp_path: Path, ledger: Ledger, first: Bundle, second: Bundle
) -> None:
    promote(ledger, first)
    with follow(tmp_path) as server:
        promote(ledger, first)
        time.sleep(0.3)  # some polls
        promote(ledger, second)
        wait_for_digest(server, second)
        assert swaps(server, "ok") == 1


def test_a_lost_ledger_does_not_stop_the_server(
    tmp_path: Path, ledger: Ledger, first: Bundle
) -> None:
    promote(ledger, first)
    with follow(tmp_path) as server:
        for path in (tmp_path / "home").iterdir():
            path.write_bytes(b"no database" * 10_000)
        time.sleep(0.5)  # some polls
        assert httpx.post(f"{server.url}/predict", json={"inputs": "a"}).status_code == 200
        row = {"id": "1", "text": "late again", "label": "delivery"}
        assert httpx.post(f"{server.url}/feedback", json=row).status_code == 503
        assert server.stop() == 0
    assert server.log.count("event=ledger_lost") == 1


def refused_start(**options: Any) -> str:
    process = launch(**options)
    out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in log
    return log


def test_nothing_deployed_says_what_to_run_first(tmp_path: Path) -> None:
    log = refused_start(follow=MODEL_NAME, home=tmp_path / "home")
    assert "LedgerError: nothing is deployed for the model 'tiny'" in log
    assert "edgeloop run" in log


@pytest.mark.parametrize("spoil", [flipped, truncated, break_golden, overlabelled])
def test_a_bad_bundle_does_not_start(first: Bundle, spoil: Callable[[Bundle], Bundle]) -> None:
    log = refused_start(bundle=spoil(first).path)
    assert str(first.path) in log


def test_a_missing_file_and_a_newer_schema_do_not_start(tmp_path: Path, first: Bundle) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(first.path, newer)
    manifest = newer / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    assert "upgrade edgeloop" in refused_start(bundle=newer)
    first.file(MODEL).unlink()
    assert "model.onnx is missing" in refused_start(bundle=first.path)

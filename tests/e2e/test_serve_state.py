"""`edgeloop serve BUNDLE --config serve.yaml`: killed, it goes on watching where it was."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import monitored, tiny

WAIT_SECONDS = 30.0


@contextmanager
def serving(bundle: Path, config: Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The command on a free port; its URL is in the log."""
    command = ["serve", str(bundle), "--config", str(config), "--port", "0", "--workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeloop", *command],
            stderr=stream,
            text=True,
            env=environment,
        )
        try:
            yield wait_for_url(log), process
        finally:
            process.kill()
            process.wait()


def wait_for_url(log: Path) -> str:
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if "event=serving url=" in line:
                return line.rpartition("url=")[2]
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def drift(url: str) -> dict[str, Any]:
    """The status of the monitor once it has seen all that was answered."""
    while True:
        found: dict[str, Any] = httpx.get(f"{url}/drift").json()
        if found["pending_observations"] == 0:
            return found
        time.sleep(0.01)


def test_a_killed_server_keeps_its_evidence_and_a_reload_is_taken(tmp_path: Path) -> None:
    bundle = monitored.make_bundle(tmp_path / "made").path
    config, log = tmp_path / "serve.yaml", tmp_path / "log"
    config.write_text("state: kept\nstate_seconds: 0.05\n")
    texts = [text for text, _ in tiny.sentences(40, seed=9)]
    with serving(bundle, config, log) as (url, process), httpx.Client(base_url=url) as http:
        for text in texts:
            assert http.post("/predict", json={"inputs": text}).status_code == 200
        before = drift(url)
        assert before["observations"] == len(texts)
        time.sleep(0.5)  # some ticks
        process.kill()
        process.wait()
    with serving(bundle, config, log) as (url, process):
        after = drift(url)
        assert after == before
        config.write_text("state: kept\nstate_seconds: 0.05\ndrain_seconds: 0\n")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
    assert "event=state_restored" in log.read_text()
    assert "event=reloaded changed=drain_seconds" in log.read_text()

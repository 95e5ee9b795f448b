"""A real server, Prometheus and Alertmanager on loopback, with the files of deploy/ made faster.

    with running(folder, bundle, home) as stack: stack.query("up")

Debian: apt-get install --no-install-recommends prometheus prometheus-alertmanager
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deployed import DEPLOY, ROOT, documents

PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
PATIENCE_SECONDS = 30.0
# The committed rules with other times, and nothing else: what inhibits still ends first.
FASTER = {
    "recording.yml": {"interval: 1m": "interval: 1s"},
    "rules.yml": {
        "keep_firing_for: 30m": "keep_firing_for: 8s",
        'edgeloop_swaps_total{reason="ok"}[15m]': 'edgeloop_swaps_total{reason="ok"}[4s]',
    },
}


@dataclass
class Webhook:
    """What a receiver was sent: (receiver, alert) in order of arrival."""

    url: str
    alerts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def got(self, name: str, status: str) -> list[str]:
        """The receivers that were told that an alert is `firing` or `resolved`."""
        return [
            receiver
            for receiver, alert in list(self.alerts)
            if (alert["labels"]["alertname"], alert["status"]) == (name, status)
        ]


@dataclass(frozen=True)
class Stack:
    """Where the parts answer."""

    server: str
    prometheus: str
    alertmanager: str
    webhook: Webhook

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What Prometheus answers to an expression now."""
        answer = httpx.get(f"{self.prometheus}/api/v1/query", params={"query": expr}, timeout=10)
        assert answer.status_code == 200, (expr, answer.text)
        data = answer.json()["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        found: list[dict[str, Any]] = data["result"]
        return found

    def predict(self, texts: list[str]) -> None:
        """Have texts answered, at most 32 at once."""
        for start in range(0, len(texts), 32):
            inputs = [[text] for text in texts[start : start + 32]]
            answer = httpx.post(f"{self.server}/predict", json={"inputs": inputs}, timeout=20)
            assert answer.status_code == 200, answer.text


def wait_for(what: str, is_true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Look again and again until something is so; AssertionError where it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if is_true():
                return
        except httpx.TransportError:  # not up yet
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:g} s: {what}")


@contextmanager
def running(folder: Path, model: str, home: Path) -> Iterator[Stack]:
    """The stack for a model that the ledger in `home` has deployed."""
    with ExitStack() as stack:
        webhook = stack.enter_context(_receiving())
        server = stack.enter_context(_server(folder, model, home))
        ports = _free_ports(2)
        prometheus, alertmanager = (f"127.0.0.1:{port}" for port in ports)
        _write_alertmanager(folder, webhook.url)
        _write_prometheus(folder, server, prometheus, alertmanager)
        assert PROMETHEUS is not None
        assert ALERTMANAGER is not None
        stack.enter_context(
            _program(
                folder / "alertmanager.log",
                ALERTMANAGER,
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={alertmanager}",
                "--cluster.listen-address=",
            )
        )
        stack.enter_context(
            _program(
                folder / "prometheus.log",
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address={prometheus}",
            )
        )
        found = Stack(server, f"http://{prometheus}", f"http://{alertmanager}", webhook)
        for url in (found.prometheus, found.alertmanager):
            wait_for(f"{url} is ready", partial(_is_ready, url))
        yield found


def _is_ready(url: str) -> bool:
    return httpx.get(f"{url}/-/ready").is_success


@contextmanager
def _program(
    log: Path, *words: str, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end; what it says goes to a file."""
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=file, env=environment, cwd=ROOT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _server(folder: Path, model: str, home: Path) -> Iterator[str]:
    """`edgeloop serve --follow`, as the systemd unit starts it; its URL."""
    config = folder / "serve.yaml"
    config.write_text("poll_seconds: 0.2\nautotune: false\ndrain_seconds: 0\n", encoding="utf-8")
    log = folder / "server.log"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGELOOP_HOME": str(home)}
    options = ("--port", "0", "--workers", "1", "--config", str(config))
    words = (sys.executable, "-m", "edgeloop", "serve", "--follow", model, *options)
    with _program(log, *words, environment=environment):
        yield _url_in(log)


def _url_in(log: Path) -> str:
    found: list[str] = []

    def is_told() -> bool:
        found[:] = re.findall(r"event=serving url=(\S+)", log.read_text(encoding="utf-8"))
        return bool(found)

    try:
        wait_for("the server serves", is_told)
    except AssertionError:
        raise AssertionError(log.read_text(encoding="utf-8")) from None
    return found[0]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _write_prometheus(folder: Path, server: str, prometheus: str, alertmanager: str) -> None:
    (config,) = documents(DEPLOY / "prometheus" / "prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    targets = {"edgeloop": server.removeprefix("http://"), "prometheus": prometheus}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for name, changes in FASTER.items():
        text = (DEPLOY / "prometheus" / name).read_text(encoding="utf-8")
        for slow, fast in changes.items():
            assert text.count(slow) == 1, slow
            text = text.replace(slow, fast)
        (folder / name).write_text(text, encoding="utf-8")


def _write_alertmanager(folder: Path, webhook: str) -> None:
    (config,) = documents(DEPLOY / "alertmanager" / "alertmanager.yml")
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    for receiver in config["receivers"]:
        if receiver["name"] != "nobody":
            receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config), encoding="utf-8")


@contextmanager
def _receiving() -> Iterator[Webhook]:
    """A receiver of Alertmanager's webhooks."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            webhook.alerts.extend((body["receiver"], alert) for alert in body["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        webhook = Webhook(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()

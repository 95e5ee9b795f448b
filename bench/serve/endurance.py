"""What a server must outlive: swaps, the end, the monitor and the capture, each under load."""

import json
import signal
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from bench.serve.bundles import Served
from bench.serve.load import Answer, Check, Seen, open_loop, wrk
from bench.serve.servers import Peer, free_port, ours, running, unobserved
from edgeloop.models import open_model
from edgeloop.tasks import TASKS

if TYPE_CHECKING:
    from bench.serve.parts import Setting

CONNECTIONS = 32
# What the load takes of what the server can do.
SHARE = 0.5


def swaps(setting: "Setting") -> dict[str, Any]:
    """Swaps back and forth between two bundles under load: every answer must be 200, and that of
    the bundle which its header names."""
    count = 40 if setting.quick else 1000
    bundles = [setting.served(name) for name in ("int8", "cascade")]
    texts = setting.texts().read_text(encoding="utf-8").splitlines()[:500]
    bodies = [json.dumps({"inputs": text}).encode() for text in texts]
    check = _right_for_its_bundle(bundles, texts)
    port = free_port()
    config = setting.home / "admin.yaml"
    config.write_text(f"admin: {{port: {port}}}\n", encoding="utf-8")
    with running(ours("--config", str(config)), bundles[0].folder, bodies[0]) as server:
        rate = SHARE * wrk(server.url, setting.bodies(), CONNECTIONS, 2.0).rps
        done: list[int] = []
        load = Loaded(server.url, bodies, rate, check)
        started = time.monotonic()
        for number in range(count):
            path = str(bundles[(number + 1) % 2].folder)
            reply = httpx.post(
                f"http://127.0.0.1:{port}/admin/bundles", json={"path": path}, timeout=60.0
            )
            done.append(reply.status_code)
        seconds = time.monotonic() - started
        seen = load.stop()
    failures = len(seen.statuses) - seen.count(200) + seen.broken + seen.wrong + seen.closed
    return {
        "swaps": done.count(200),
        "refused": count - done.count(200),
        "seconds": seconds,
        "answers": seen.count(200),
        "failures": failures,
        "p99_ms": seen.quantile_ms(0.99),
    }


class Loaded:
    """An open load in a thread of its own, until it is stopped."""

    STEP_SECONDS = 5.0

    def __init__(self, url: str, bodies: list[bytes], rate: float, check: Check) -> None:
        self._stopped = threading.Event()
        self._seen = Seen()
        self._thread = threading.Thread(target=self._run, args=(url, bodies, rate, check))
        self._thread.start()

    def stop(self) -> Seen:
        """What was seen until now."""
        self._stopped.set()
        self._thread.join()
        return self._seen

    def _run(self, url: str, bodies: list[bytes], rate: float, check: Check) -> None:
        while not self._stopped.is_set():
            part = open_loop(url, bodies, rate, self.STEP_SECONDS, CONNECTIONS, check)
            self._seen.statuses += part.statuses
            self._seen.seconds += part.seconds
            self._seen.sent_seconds += part.sent_seconds
            self._seen.broken += part.broken
            self._seen.closed += part.closed
            self._seen.wrong += part.wrong


def _right_for_its_bundle(bundles: list[Served], texts: list[str]) -> Check:
    """The label that the bundle in the answer's header gives the text, in this process."""
    expected: dict[bytes, list[str]] = {}
    for served in bundles:
        manifest = served.bundle.manifest
        model, task = open_model(served.folder, manifest.max_tokens), TASKS[manifest.task]
        outputs = model.score(texts)
        labels = [task.answer(output, manifest.labels).labels[0] for output in outputs]
        expected[served.bundle.digest.encode()] = labels

    def check(answer: Answer) -> bool:
        digest = answer.head.partition(b"x-edgeloop-bundle: ")[2].partition(b"\r\n")[0]
        found = json.loads(answer.body)["predictions"][0]["labels"][0]
        return bool(expected[digest][answer.number % len(texts)] == found)

    return check


def drain(setting: "Setting") -> dict[str, Any]:
    """SIGTERM under load, several times: connections that break under a request are resets; one
    that is not set up any more, after the port has closed, is none."""
    rounds = 2 if setting.quick else 5
    bodies = setting.lines()
    resets = answered = closed = 0
    codes = []
    for _ in range(rounds):
        with running(ours(), setting.served("int8").folder, bodies[0]) as server:
            rate = SHARE * wrk(server.url, setting.bodies(), CONNECTIONS, 1.0).rps
            timer = threading.Timer(2.0, server.process.send_signal, (signal.SIGTERM,))
            timer.start()
            seen = open_loop(server.url, bodies, rate, 4.0, CONNECTIONS)
            codes.append(server.process.wait(15))
        resets += seen.broken + len(seen.statuses) - seen.count(200)
        answered += seen.count(200)
        closed += seen.closed
    return {
        "rounds": rounds,
        "answered": answered,
        "resets": resets,
        "found_the_port_closed": closed,
        "exit_codes": codes,
    }


def observed(setting: "Setting") -> dict[str, Any]:
    """Requests per second with drift monitor and capture against those without both, in turns."""
    folder = setting.home / "captured"
    config = setting.home / "capture.yaml"
    config.write_text(f"capture: {{folder: {folder}, share: 0.05}}\n", encoding="utf-8")
    sides: dict[str, Peer] = {
        "neither": unobserved(),
        "drift": ours("--workers", "2"),
        "drift and capture": ours("--workers", "2", "--config", str(config)),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    bundle: Path = setting.served("int8").folder
    for _ in range(2 if setting.quick else 7):
        for name, side in sides.items():
            with running(side, bundle, setting.lines()[0]) as server:
                wrk(server.url, setting.bodies(), CONNECTIONS, 1.0)
                cell = wrk(server.url, setting.bodies(), CONNECTIONS, setting.seconds)
                rates[name].append(cell.rps)
    ratios = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates["neither"], strict=True))
        for name in sides
    }
    return {
        "rps": {name: statistics.median(found) for name, found in rates.items()},
        "ratio": ratios,
    }

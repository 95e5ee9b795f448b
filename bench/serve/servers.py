"""Servers under test, each a process tree of its own: ours, and every peer by its own environment's
Python (bench/serve/peers.sh makes those)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = Path(os.environ.get("EDGELOOP_PEERS", ROOT / "build" / "peers"))
START_SECONDS = 90.0
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "True"}


@dataclass(frozen=True)
class Peer:
    """How a server is started on a port, and where it answers which shape of request."""

    command: Callable[[Path, int], Sequence[str]]
    path: str = "/predict"
    shape: str = "inputs"
    environment: str | None = None
    settings: Callable[[Path, int], dict[str, str]] = field(default=lambda folder, port: {})


def _python(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin" / "python")


def ours(*words: str) -> Peer:
    """edgeloop serve with further words of its command line. /v1/predict answers what the peers do:
    the best label with its score."""
    return Peer(
        lambda folder, port: [
            *(sys.executable, "-m", "edgeloop", "serve", str(folder), "--port", str(port)),
            *words,
        ],
        path="/v1/predict",
    )


def unobserved() -> Peer:
    """Our server with two threads and a monitor that does nothing."""
    return Peer(
        lambda folder, port: [
            *(sys.executable, "-m", "bench.serve.unobserved", str(folder), "--port", str(port))
        ],
        path="/v1/predict",
    )


def _mlserver_settings(folder: Path, port: int) -> dict[str, str]:
    home = ENVIRONMENTS / "mlserver" / "model"
    home.mkdir(exist_ok=True)
    model = {"name": "peer", "implementation": "peer_mlserver.PeerRuntime"}
    (home / "model-settings.json").write_text(json.dumps(model))
    server = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2}
    # Its worker processes do not start on Python 3.11 ("no current event loop").
    (home / "settings.json").write_text(json.dumps({**server, "parallel_workers": 0}))
    return {"PEER_FOLDER": str(folder)}


PEERS = {
    "FastAPI + ORT, 2 workers x 1 thread": Peer(
        lambda folder, port: [
            *(_python("fastapi"), str(HERE / "peer_fastapi.py"), str(folder), str(port), "2", "1")
        ],
        environment="fastapi",
    ),
    "FastAPI + ORT, 1 worker x 2 threads": Peer(
        lambda folder, port: [
            *(_python("fastapi"), str(HERE / "peer_fastapi.py"), str(folder), str(port), "1", "2")
        ],
        environment="fastapi",
    ),
    "LitServe + ORT, 2 workers": Peer(
        lambda folder, port: [
            *(_python("litserve"), str(HERE / "peer_litserve.py"), str(folder), str(port), "2")
        ],
        environment="litserve",
    ),
    "BentoML + ORT, 2 workers": Peer(
        lambda folder, port: [
            *(_python("bentoml"), "-m", "bentoml", "serve", "peer_bentoml:Classifier"),
            *("--port", str(port)),
        ],
        environment="bentoml",
        settings=lambda folder, port: {"PEER_FOLDER": str(folder)},
    ),
    "MLServer + ORT, in one process": Peer(
        lambda folder, port: [
            *(str(ENVIRONMENTS / "mlserver" / "bin" / "mlserver"), "start"),
            str(ENVIRONMENTS / "mlserver" / "model"),
        ],
        path="/v2/models/peer/infer",
        shape="oip",
        environment="mlserver",
        settings=_mlserver_settings,
    ),
}


@dataclass
class Running:
    """A server that answers."""

    url: str
    process: subprocess.Popen[bytes]
    cold_start_seconds: float

    def rss_bytes(self) -> int:
        """Memory of the whole tree, shared pages once per process."""
        return sum(p.memory_info().rss for p in self._tree())

    def pss_bytes(self) -> int:
        """Memory of the whole tree, shared pages once. Linux."""
        return sum(p.memory_full_info().pss for p in self._tree())

    def cpu_seconds(self) -> float:
        """Of the whole tree."""
        return sum(sum(p.cpu_times()[:2]) for p in self._tree())

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]


def problem(peer: Peer) -> str | None:
    """Why a peer cannot be run here; None where it can."""
    if peer.environment is None or (ENVIRONMENTS / peer.environment / ".ready").exists():
        return None
    reason = ENVIRONMENTS / f"{peer.environment}.txt"
    return reason.read_text().strip() if reason.exists() else "not installed: see peers.sh"


@contextmanager
def running(peer: Peer, folder: Path, body: bytes) -> Iterator[Running]:
    """Start a server and wait for its first answer; stop its whole tree at the end."""
    port = free_port()
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(HERE), **peer.settings(folder, port)}
    if peer.environment is None:
        environment["PYTHONPATH"] = str(ROOT)
    started = time.monotonic()
    process = subprocess.Popen(
        [*peer.command(folder, port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}{peer.path}"
        _wait(url, body, process)
        yield Running(url, process, time.monotonic() - started)
    finally:
        _stop(process)


def _wait(url: str, body: bytes, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        try:
            answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
            if answer.status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        time.sleep(0.005)
    raise RuntimeError(f"{url} did not answer within {START_SECONDS:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then, to whatever of its own session is left, SIGKILL."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(15)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    return port

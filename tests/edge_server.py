"""A real server process for the tests, and the few lines that run inside it.

    with serving(bundle=path) as server: httpx.post(server.url + "/predict", ...)

The process prints its URL when it is ready and, after a clean stop, the modules it had loaded.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgeloop import log
from edgeloop.bundle import Bundle
from edgeloop.errors import EdgeloopError
from edgeloop.ledger import open_ledger, utc_now
from edgeloop.observer import (
    AccuracyStatus,
    Labelled,
    Observation,
    Observer,
    ObserverStatus,
)
from edgeloop.records import Verdict
from edgeloop.tasks import TASKS
from serve.config import ServerConfig, load_config
from serve.run import ServerSettings, run_server

ROOT = Path(__file__).parents[1]
ALARM_WORD = "alarm"
BROKEN_WORD = "explode"


class WordObserver:
    """Counts; alarms at a text with ALARM_WORD, fails at one with BROKEN_WORD."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._seen = 0
        self._alarms = 0
        self._labels: dict[str, bool] = {}

    def observe(self, observation: Observation) -> Verdict | None:
        self._seen += 1
        assert observation.embedding.ndim == 1
        names = TASKS[self._bundle.manifest.task].class_names(self._bundle.manifest.labels)
        assert observation.probabilities.shape == (len(names),)
        if BROKEN_WORD in observation.text:
            raise ValueError("the observer broke")
        if ALARM_WORD not in observation.text:
            return None
        self._alarms += 1
        return Verdict(
            model=self._bundle.manifest.name,
            bundle_digest=self._bundle.digest,
            at=utc_now(),
            observation=self._seen,
            detector="word",
            log_evidence=3.0,
            threshold=2.0,
            parts={},
            target_run_length=100,
            words=(),
            classes=(),
        )

    def label(self, labelled: Labelled) -> Verdict | None:
        self._labels[labelled.id] = labelled.right
        return None

    def status(self) -> ObserverStatus:
        accuracy = AccuracyStatus(0.5, 0.9, labels=len(self._labels))
        return ObserverStatus(
            True, self._seen, 0, 0.0, 2.0, 100, 100.0, self._alarms, self._alarms > 0, accuracy
        )

    def state(self) -> bytes:
        return f"{self._seen} {self._alarms}".encode()

    def restore(self, state: bytes) -> None:
        self._seen, self._alarms = map(int, state.split())


class SeenCollector(Collector):
    """What the monitor's own collector does: reads the observer of the moment."""

    def __init__(self, current: Callable[[], Observer]) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        seen = self._current().status().observations
        yield GaugeMetricFamily("edgeloop_test_observations", "Seen by the observer", seen)


@dataclass
class Server:
    """A running server; `modules` is filled by a clean stop."""

    url: str
    process: subprocess.Popen[str]
    admin: str
    log_file: IO[str]
    modules: list[str] = field(default_factory=list)
    log: str = ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, wait, and return its exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Read what it says until it ends; its exit code."""
        out, _ = self.process.communicate(timeout=60)
        self.log = _read(self.log_file)
        self.modules = json.loads(out) if out.strip() else []
        return self.process.returncode


def launch(log_file: IO[str] | int = subprocess.PIPE, /, **options: Any) -> subprocess.Popen[str]:
    """Start the process; options are those of `main`. A pipe that nobody reads holds 64 KiB of log,
    then the server waits: who lets it run for long gives a file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.edge_server", json.dumps(options, default=str)],
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        env=environment,
        cwd=ROOT,
    )


@contextmanager
def serving(**options: Any) -> Iterator[Server]:
    """A server that answers; it is killed at the end if it still runs."""
    with TemporaryFile("w+") as log_file:
        process = launch(log_file, **options)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert url.startswith("http"), _read(log_file)
            admin = process.stdout.readline().strip() if _has_admin(options) else ""
            yield Server(url, process, admin, log_file)
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=10)


def _read(log_file: IO[str]) -> str:
    log_file.seek(0)
    return log_file.read()


def _has_admin(options: dict[str, Any]) -> bool:
    if "config_file" not in options:
        return options.get("admin") is not None
    return "admin:" in Path(options["config_file"]).read_text()


def main(
    bundle: str | None = None,
    follow: str | None = None,
    home: str | None = None,
    port: int = 0,
    public_key: str | None = None,
    workers: int | None = None,
    config_file: str | None = None,
    **config: Any,
) -> int:
    """Serve with a WordObserver; verdicts go to the ledger where there is one. `config`: the keys
    of serve.yaml, or `config_file`: where it is."""
    log.configure()
    ledger = None if home is None else open_ledger(Path(home))
    settings = ServerSettings(
        host="127.0.0.1",
        port=port,
        bundle=None if bundle is None else Path(bundle),
        follow=follow,
        ledger=ledger,
        make_observer=WordObserver,
        on_verdict=(lambda _: None) if ledger is None else ledger.add_verdict,
        make_collector=SeenCollector,
        on_ready=lambda url: print(url, flush=True),
        workers=workers,
        config=_config(config_file, config),
        config_path=None if config_file is None else Path(config_file),
        on_admin_ready=lambda url: print(url, flush=True),
        public_key=None if public_key is None else Path(public_key),
    )
    try:
        code = run_server(settings)
    except EdgeloopError as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return 1
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
    return code


def _config(path: str | None, keys: dict[str, Any]) -> ServerConfig:
    if path is not None:
        return load_config(Path(path))
    return ServerConfig.model_validate_json(json.dumps({"poll_seconds": 0.05, **keys}))


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))

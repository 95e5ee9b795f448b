"""The parts of the benchmark. Each returns plain values, which __main__ keeps and prints."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.compress.parts import Setting as Compressed
from bench.serve import endurance
from bench.serve.bundles import Served, make_bundle, write_bodies, write_texts
from bench.serve.install import install_bytes
from bench.serve.load import open_loop, wrk
from bench.serve.servers import PEERS, Peer, ours, problem, running

HERE = Path(__file__).parent
CONNECTIONS = (1, 8, 32)
MOST = max(CONNECTIONS)
CORES = 2
WARM_SECONDS = 1.0
OURS = "edgeloop"
CASCADE = "edgeloop, cascade"
BY_PROCESSES = "edgeloop, processes"
CASCADE_BY_PROCESSES = "edgeloop, cascade, processes"
OWN = (OURS, CASCADE, BY_PROCESSES, CASCADE_BY_PROCESSES)


@dataclass(frozen=True)
class Setting:
    """Where the data lies, what is kept, how long each load lasts."""

    compressed: Compressed
    home: Path
    quick: bool

    @property
    def seconds(self) -> float:
        """Of one load."""
        return 2.0 if self.quick else 5.0

    @property
    def rounds(self) -> int:
        """In which all servers take turns."""
        return 1 if self.quick else 3

    def served(self, name: str) -> Served:
        """A bundle of bench.compress's model."""
        return make_bundle(name, self.compressed)

    def texts(self) -> Path:
        """A text a line."""
        return write_texts(self.compressed, self.home)

    def bodies(self, shape: str = "inputs") -> Path:
        """A request a line."""
        return write_bodies(self.texts(), self.home / f"{shape}.jsonl", shape)

    def processes(self) -> Path:
        """The serve.yaml whose models run in processes of their own."""
        path = self.home / "processes.yaml"
        path.write_text("processes: true\n", encoding="utf-8")
        return path

    def lines(self) -> list[bytes]:
        """The bodies themselves."""
        return self.bodies().read_bytes().splitlines()


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _ceiling(setting: Setting, folder: Path) -> float:
    """Texts per second of CORES sessions of one thread, tokenizing included, without a server."""
    command = [sys.executable, str(HERE / "ceiling.py"), str(folder), str(setting.texts())]
    done = subprocess.run(
        [*command, str(setting.seconds), str(CORES)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def http(setting: Setting) -> dict[str, Any]:
    """Every server under every load, in turns with the ceiling: requests per second (median over
    rounds), latency, memory and CPU."""
    int8, cascade = setting.served("int8"), setting.served("cascade")
    by_processes = ours("--config", str(setting.processes()))
    sides: dict[str, tuple[Peer, Path]] = {
        OURS: (ours(), int8.folder),
        BY_PROCESSES: (by_processes, int8.folder),
        CASCADE: (ours(), cascade.folder),
        CASCADE_BY_PROCESSES: (by_processes, cascade.folder),
    }
    sides |= {name: (peer, int8.folder) for name, peer in PEERS.items() if problem(peer) is None}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    ceilings = []
    problems = {name: why for name, peer in PEERS.items() if (why := problem(peer)) is not None}
    for round_number in range(setting.rounds):
        ceilings.append(_ceiling(setting, int8.folder))
        _say(f"round {round_number + 1}: ceiling {ceilings[-1]:.0f} texts/s")
        for name, (peer, folder) in list(sides.items()):
            try:
                found[name].append(_loads(setting, peer, folder))
            except RuntimeError as why:  # a peer that does not start; ours must
                if peer.environment is None:
                    raise
                problems[name] = str(why)
                del sides[name], found[name]
                continue
            rps = [found[name][-1][str(c)]["rps"] for c in CONNECTIONS]
            _say(f"  {name}: {', '.join(f'{value:.0f}' for value in rps)} requests/s")
    return {
        "ceiling_rps": statistics.median(ceilings),
        "ceilings": ceilings,
        "sides": {name: _medians(rounds) for name, rounds in found.items()},
        "problems": problems,
    }


def _loads(setting: Setting, peer: Peer, folder: Path) -> dict[str, Any]:
    bodies = setting.bodies(peer.shape)
    with running(peer, folder, bodies.read_bytes().splitlines()[0]) as server:
        wrk(server.url, bodies, MOST, WARM_SECONDS)
        cells: dict[str, Any] = {}
        for connections in CONNECTIONS:
            before = server.cpu_seconds()
            cell = wrk(server.url, bodies, connections, setting.seconds)
            cpu_ms = 1000.0 * (server.cpu_seconds() - before) / (cell.rps * setting.seconds)
            cells[str(connections)] = {**vars(cell), "cpu_ms": cpu_ms}
        cells["rss_bytes"] = server.rss_bytes()
        cells["pss_bytes"] = server.pss_bytes()
        cells["cold_start_seconds"] = server.cold_start_seconds
    return cells


def _medians(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    def median(pick: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(pick(found) for found in rounds)

    cells = {
        key: {name: median(lambda f, k=key, n=name: f[k][n]) for name in rounds[0][key]}  # type: ignore[misc]
        for key in map(str, CONNECTIONS)
    }
    return {
        **cells,
        "errors": sum(found[str(c)]["errors"] for found in rounds for c in CONNECTIONS),
        "rss_bytes": median(lambda found: found["rss_bytes"]),
        "pss_bytes": median(lambda found: found["pss_bytes"]),
        "cold_start_seconds": median(lambda found: found["cold_start_seconds"]),
    }


def tail(setting: Setting) -> dict[str, Any]:
    """Latency at 70% of what the server can do, requests at random times."""
    with _serving(setting) as server:
        most = wrk(server.url, setting.bodies(), MOST, setting.seconds).rps
        seen = open_loop(server.url, setting.lines(), 0.7 * most, 2 * setting.seconds, 64)
    return {
        "rate": 0.7 * most,
        "p50_ms": seen.quantile_ms(0.5),
        "p99_ms": seen.quantile_ms(0.99),
        "answered": seen.count(200),
        "other": len(seen.statuses) - seen.count(200) + seen.broken,
    }


def overload(setting: Setting) -> dict[str, Any]:
    """Four times what the server can do: what is accepted keeps its deadline, the rest is told at
    once."""
    with _serving(setting) as server:
        most = wrk(server.url, setting.bodies(), MOST, setting.seconds).rps
        seen = open_loop(server.url, setting.lines(), 4 * most, 2 * setting.seconds, 1024)
    return {
        "rate": 4 * most,
        "answered": seen.count(200),
        "refused": seen.count(503),
        "expired": seen.count(504),
        "broken": seen.broken,
        # Since they were sent: a client in Python on the same cores is late itself.
        "answer_p99_ms": seen.quantile_ms(0.99, since_sent=True),
        "reject_p50_ms": seen.quantile_ms(0.5, 503, since_sent=True),
        "reject_p99_ms": seen.quantile_ms(0.99, 503, since_sent=True),
    }


def install(setting: Setting) -> dict[str, Any]:
    """`pip install edgeloop[cpu]` into an empty environment: its bytes, and whether torch came."""
    with tempfile.TemporaryDirectory() as scratch:
        return install_bytes(Path(scratch))


def soak(setting: Setting) -> dict[str, Any]:
    """Mixed lengths for ten minutes (one with --quick): memory at the start and at the end."""
    rounds = 4 if setting.quick else 40
    with _serving(setting) as server:
        sizes = []
        for _ in range(rounds):
            wrk(server.url, setting.bodies(), MOST, 15.0)
            sizes.append(server.rss_bytes())
    return {"rss_bytes": sizes, "growth": sizes[-1] / sizes[0] - 1.0}


def _serving(setting: Setting, *words: str):  # type: ignore[no-untyped-def]
    return running(ours(*words), setting.served("int8").folder, setting.lines()[0])


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "http": http,
    "tail": tail,
    "overload": overload,
    "install": install,
    "observed": endurance.observed,
    "swaps": endurance.swaps,
    "drain": endurance.drain,
    "soak": soak,
}

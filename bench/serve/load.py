"""Load on a server: closed loops by wrk, and an open loop of our own with a fixed rate."""

import asyncio
import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

SCRIPT = Path(__file__).parent / "post.lua"


@dataclass(frozen=True)
class Cell:
    """One server under one closed load."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int


def wrk(url: str, bodies: Path, connections: int, seconds: float) -> Cell:
    """Send the bodies (one JSON document a line) over so many connections, each of which waits for
    its answer. Raises CalledProcessError where wrk fails."""
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"),
            *("-s", str(SCRIPT), url, "--", str(bodies)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return Cell(
        rps=found["requests"] / found["seconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        errors=found["errors"],
    )


@dataclass
class Seen:
    """What an open loop saw: status and seconds of every answer, and connections that broke."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    broken: int = 0

    def count(self, status: int) -> int:
        """Answers of that status."""
        return self.statuses.count(status)

    def quantile_ms(self, q: float, status: int = 200) -> float:
        """Of the answers of that status; nan where there are none."""
        taken = [s for code, s in zip(self.statuses, self.seconds, strict=True) if code == status]
        return 1000.0 * float(np.quantile(taken, q)) if taken else float("nan")


def open_loop(
    url: str, bodies: Sequence[bytes], rate: float, seconds: float, connections: int
) -> Seen:
    """Requests that come at times drawn from a Poisson process of `rate` per second, whether the
    ones before are answered or not. Time counts from when a request was due, so that one that had
    to wait for a connection is not made to look quick (coordinated omission)."""
    return asyncio.run(_open_loop(url, bodies, rate, seconds, connections))


async def _open_loop(
    url: str, bodies: Sequence[bytes], rate: float, seconds: float, connections: int
) -> Seen:
    rng = np.random.default_rng(0)
    gaps = rng.exponential(1.0 / rate, int(rate * seconds))
    begin = time.perf_counter() + 0.1
    due = iter(enumerate((begin + np.cumsum(gaps)).tolist()))
    seen = Seen()
    parts = urlsplit(url)
    workers = [_connection(parts, bodies, due, seen) for _ in range(connections)]
    await asyncio.gather(*workers)
    return seen


async def _connection(parts, bodies, due, seen: Seen) -> None:  # type: ignore[no-untyped-def]
    """Takes the next request that is due, sends it, reads its answer; opens anew what broke."""
    reader = writer = None
    for number, at in due:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        try:
            if writer is None:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            status, keep = await _ask(reader, writer, parts, bodies[number % len(bodies)])
        except (OSError, asyncio.IncompleteReadError, ValueError):
            seen.broken += 1
            writer = None
            continue
        seen.statuses.append(status)
        seen.seconds.append(time.perf_counter() - at)
        if not keep:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()


async def _ask(reader, writer, parts, body: bytes) -> tuple[int, bool]:  # type: ignore[no-untyped-def]
    """(status, whether the connection stays)."""
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (parts.path.encode(), len(body), body)
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return status, b"connection: close" not in head

"""Load on a server: closed loops by wrk, and an open loop of our own with a fixed rate."""

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

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
    """What a load saw: status and seconds of every answer, since it was due and since it was sent,
    connections that broke under a request, and attempts to connect that found the port closed."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sent_seconds: list[float] = field(default_factory=list)
    broken: int = 0
    closed: int = 0
    wrong: int = 0

    def count(self, status: int) -> int:
        """Answers of that status."""
        return self.statuses.count(status)

    def quantile_ms(self, q: float, status: int = 200, since_sent: bool = False) -> float:
        """Of the answers of that status; nan where there are none."""
        seconds = self.sent_seconds if since_sent else self.seconds
        taken = [s for code, s in zip(self.statuses, seconds, strict=True) if code == status]
        return 1000.0 * float(np.quantile(taken, q)) if taken else float("nan")


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    number: int
    status: int
    head: bytes
    body: bytes


Check = Callable[[Answer], bool]


def open_loop(
    url: str,
    bodies: Sequence[bytes],
    rate: float,
    seconds: float,
    connections: int,
    check: Check = lambda _: True,
) -> Seen:
    """Requests that come at times drawn from a Poisson process of `rate` per second, whether the
    ones before are answered or not. Time counts from when a request was due, so that one that had
    to wait for a connection is not made to look quick (coordinated omission). `check`: is a 200
    the right answer?"""
    rng = np.random.default_rng(0)
    due = np.cumsum(rng.exponential(1.0 / rate, int(rate * seconds))).tolist()
    return asyncio.run(_all(url, bodies, due, connections, check))


async def _all(
    url: str, bodies: Sequence[bytes], due: Sequence[float], connections: int, check: Check
) -> Seen:
    begin, seen, parts = time.perf_counter() + 0.1, Seen(), urlsplit(url)
    turns = iter([(number, begin + at) for number, at in enumerate(due)])
    await asyncio.gather(
        *(_connection(parts, bodies, turns, seen, check) for _ in range(connections))
    )
    return seen


async def _connection(
    parts: SplitResult,
    bodies: Sequence[bytes],
    turns: Iterator[tuple[int, float]],
    seen: Seen,
    check: Check,
) -> None:
    """Takes the next request that is due, sends it, reads its answer; opens anew what broke."""
    stream: Stream | None = None
    for number, at in turns:
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        try:
            if stream is None:
                stream = await asyncio.open_connection(parts.hostname, parts.port)
            sent_at = time.perf_counter()
            answer = await _ask(stream, parts.path, number, bodies[number % len(bodies)])
        except ConnectionRefusedError:
            seen.closed += 1
            stream = None
            continue
        except (OSError, asyncio.IncompleteReadError):
            seen.broken += 1
            stream = None
            continue
        seen.statuses.append(answer.status)
        seen.seconds.append(time.perf_counter() - at)
        seen.sent_seconds.append(time.perf_counter() - sent_at)
        seen.wrong += answer.status == 200 and not check(answer)
        if b"connection: close" in answer.head:
            stream[1].close()
            stream = None
    if stream is not None:
        stream[1].close()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _ask(stream: Stream, path: str, number: int, body: bytes) -> Answer:
    reader, writer = stream
    writer.write(
        b"POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (path.encode(), len(body), body)
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return Answer(number, int(head[9:12]), head, await reader.readexactly(length))

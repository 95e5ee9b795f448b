"""Texts per second of one candidate, at the layout of threads that answers most of them.

    python -m compress.throughput --folder CANDIDATE --texts texts.json --max-tokens N
                                  --cores N --seconds S --out throughput.json

A layout is `workers` threads that answer one text at a time with `intra_op_threads` threads each
(the server has one each); all that fill the cores exactly are tried, in interleaved bursts.
The process keeps itself to `cores` cores and never imports torch.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from compress.energy import EnergyMeter
from compress.texts import read_texts
from edgeloop.errors import EngineError
from edgeloop.machine import layouts
from edgeloop.models import Model, open_model
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.record import Record
from edgeloop.records_measured import Layout, Throughput
from edgeloop.rows import TextInput

BURSTS = 3
WARM_UP_TEXTS = 20


class Measured(Record):
    """What the measuring process hands back."""

    layouts: tuple[Throughput, ...]


def best_throughput(
    folder: Path, texts: Path, max_tokens: int, cores: int, seconds: float
) -> Throughput:
    """The layout that answers most texts per second on `cores` cores; `texts` is a file that
    compress.evaluate wrote. Takes about `seconds` per layout. Nothing else may run meanwhile.

    Raises EngineError where the candidate does not load or answer.
    """
    return max(
        measure_layouts(folder, texts, max_tokens, cores, seconds),
        key=lambda found: found.texts_per_second,
    )


def measure_layouts(
    folder: Path, texts: Path, max_tokens: int, cores: int, seconds: float
) -> tuple[Throughput, ...]:
    """Every layout of `cores` cores, most workers first. Raises EngineError as above."""
    out = texts.with_name("throughput.json")
    out.unlink(missing_ok=True)
    command = module_command("compress.throughput", "--folder", str(folder), "--out", str(out))
    command += ["--texts", str(texts), "--max-tokens", str(max_tokens)]
    command += ["--cores", str(cores), "--seconds", str(seconds)]
    done = subprocess.run(
        command,
        env=module_environment(TOKENIZERS_PARALLELISM="false"),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EngineError(
            f"{folder}: measuring throughput ended with {done.returncode} "
            f"({last_line(done.stderr)})"
        )
    return Measured.read(out).layouts


# -- the measuring process ---------------------------------------------------------------------


class Load:
    """Asks a layout's sessions from its workers, and sums up what they answer."""

    def __init__(
        self, layout: Layout, sessions: Sequence[Model], texts: Sequence[TextInput]
    ) -> None:
        self._layout = layout
        self._sessions = sessions
        self._texts = texts
        self._answered = 0
        self._seconds = 0.0
        self._joules: float | None = 0.0
        self._reason = ""
        self._problem: Exception | None = None
        self._lock = threading.Lock()
        for session in sessions:
            session.score(texts[:WARM_UP_TEXTS])

    def burst(self, seconds: float) -> None:
        """Answer texts for so long, at least one per worker; those under way at the end are
        answered and counted.

        Raises EngineError where a text is not answered.
        """
        started = time.perf_counter()
        with EnergyMeter() as meter:
            workers = [
                threading.Thread(target=self._work, args=(number, started + seconds))
                for number in range(self._layout.workers)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        self._seconds += time.perf_counter() - started
        self._add_energy(meter)
        if self._problem is not None:
            raise self._problem

    def _work(self, number: int, end: float) -> None:
        """Every worker begins at another text, so that they do not ask the same one at a time."""
        first = number * len(self._texts) // self._layout.workers
        texts = cycle([*self._texts[first:], *self._texts[:first]])
        session = self._sessions[number % len(self._sessions)]
        answered = 0
        try:
            while answered == 0 or (time.perf_counter() < end and self._problem is None):
                session.score([next(texts)])
                answered += 1
        except Exception as problem:  # raised again where the workers are waited for
            self._problem = problem
        with self._lock:
            self._answered += answered

    def _add_energy(self, meter: EnergyMeter) -> None:
        if meter.joules is None or self._joules is None:
            self._joules, self._reason = None, self._reason or meter.reason
        else:
            self._joules += meter.joules

    def result(self) -> Throughput:
        """Over all bursts together; there must have been one."""
        return Throughput(
            layout=self._layout,
            texts_per_second=self._answered / self._seconds,
            joules_per_text=None if self._joules is None else self._joules / self._answered,
            energy_reason=self._reason,
        )


def open_sessions(folder: Path, max_tokens: int, layout: Layout) -> list[Model]:
    """One for all workers that run alone, as in the server; else one for each: callers of one
    session share its threads. Raises EngineError where the candidate does not load."""
    count = 1 if layout.intra_op_threads == 1 else layout.workers
    return [_open(folder, max_tokens, layout.intra_op_threads) for _ in range(count)]


def _open(folder: Path, max_tokens: int, threads: int) -> Model:
    """The one place where the model is opened."""
    return open_model(folder, max_tokens, threads)


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    options = _parser().parse_args(arguments)
    _keep_to(options.cores)
    texts = read_texts(options.texts)
    loads = [
        Load(layout, open_sessions(options.folder, options.max_tokens, layout), texts)
        for layout in layouts(options.cores)
    ]
    for _ in range(BURSTS):
        for load in loads:
            load.burst(options.seconds / BURSTS)
    Measured(layouts=tuple(load.result() for load in loads)).write(options.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="compress.throughput")
    for name in ("--folder", "--texts", "--out"):
        parser.add_argument(name, type=Path, required=True)
    for name in ("--max-tokens", "--cores"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    return parser


def _keep_to(cores: int) -> None:
    """Use the first `cores` of those that this process may use, where the system can say so."""
    if hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        if cores > len(usable):
            raise EngineError(f"{cores} cores are asked for, this process may use {len(usable)}")
        os.sched_setaffinity(0, usable[:cores])


if __name__ == "__main__":
    main(sys.argv[1:])

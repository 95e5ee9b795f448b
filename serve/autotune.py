"""How many threads answer, with how many threads each, and whether they share a session: measured
on this machine with the bundle's own golden rows, and kept by machine and bundle.
"""

import hashlib
import logging
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import EdgeloopError
from edgeloop.machine import describe_machine, layouts
from edgeloop.models import Model, open_model
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.record import Record
from edgeloop.records_measured import Layout
from edgeloop.rows import TextInput
from edgeloop.rundir import write_atomic

logger = logging.getLogger(__name__)

# Every arrangement is measured in so many bursts, in turns: what else the machine does falls on
# all of them.
BURSTS = 3
BURST_SECONDS = 0.2
WARM_TEXTS = 4
MOST_SECONDS = 30.0
# Sessions of their own take memory for every thread: only for more than a little.
WORTH_RATIO = 1.05


class Threads(Record):
    """Threads that answer one text at a time, by sessions of so many threads each."""

    layout: Layout
    own_sessions: bool


class Tuned(Record):
    """What was measured: texts per second, in the order of `arrangements`."""

    schema_version: int = 1
    arrangements: tuple[Threads, ...]
    texts_per_second: tuple[float, ...]

    def best(self) -> Threads:
        """The fastest; of those that share a session where the others are hardly faster."""
        rates = dict(zip(self.arrangements, self.texts_per_second, strict=True))
        fastest = max(rates, key=lambda one: rates[one])
        sharing = [one for one in rates if not one.own_sessions]
        frugal = max(sharing, key=lambda one: rates[one], default=fastest)
        return frugal if rates[fastest] < WORTH_RATIO * rates[frugal] else fastest


def shared(workers: int) -> Threads:
    """So many threads that share one session of one thread."""
    return Threads(layout=Layout(workers=workers, intra_op_threads=1), own_sessions=False)


def arrangements(cores: int) -> tuple[Threads, ...]:
    """Every layout that fills the cores; callers of one session share its threads, so that only
    threads of one core each can share one."""
    found = [shared(cores)]
    found += [
        Threads(layout=layout, own_sessions=True)
        for layout in layouts(cores)
        if cores > 1 or layout.workers > 1
    ]
    return tuple(found)


def open_models(bundle: Bundle, threads: Threads) -> list[Model]:
    """A model per thread. Raises EngineError where it does not load."""
    workers, each = threads.layout.workers, threads.layout.intra_op_threads
    count = workers if threads.own_sessions else 1
    opened = [open_model(bundle.path, bundle.manifest.max_tokens, each) for _ in range(count)]
    return [opened[i % count] for i in range(workers)]


def tune(bundle: Bundle, cores: int, kept: Path) -> Threads:
    """The arrangement for a bundle on this machine: as it is kept in the folder, or measured, which
    takes about BURSTS * BURST_SECONDS for each. Where it cannot be measured, threads that share."""
    path = kept / f"{_key(bundle, cores)}.json"
    found = _read(path)
    if found is None:
        found = _measure_apart(bundle, cores, path)
    if found is None:
        return shared(cores)
    best = found.best()
    logger.info(
        "event=threads workers=%d intra_op_threads=%d own_sessions=%s texts_per_second=%s",
        best.layout.workers,
        best.layout.intra_op_threads,
        best.own_sessions,
        "/".join(f"{rate:.0f}" for rate in found.texts_per_second),
    )
    return best


def can_tune(bundle: Bundle, cores: int) -> bool:
    """Is there more than one arrangement, and a model that threads run?"""
    return cores > 1 and bundle.manifest.engine != "linear"


def measure(bundle: Bundle, choices: Sequence[Threads]) -> Tuned:
    """Texts per second of every arrangement: the median of its bursts."""
    texts = [row.input for row in bundle.golden()]
    opened = [open_models(bundle, threads) for threads in choices]
    for models in opened:
        for model in set(models):
            model.score(texts[:WARM_TEXTS])
    rates: list[list[float]] = [[] for _ in choices]
    for _ in range(BURSTS):
        for number, models in enumerate(opened):
            rates[number].append(_burst(models, texts))
    return Tuned(
        arrangements=tuple(choices), texts_per_second=tuple(statistics.median(r) for r in rates)
    )


def _burst(models: Sequence[Model], texts: Sequence[TextInput]) -> float:
    """Texts per second of so many threads, each at its own model."""
    answered = [0] * len(models)
    started = time.perf_counter()
    end = started + BURST_SECONDS

    def work(number: int) -> None:
        first = number * len(texts) // len(models)
        for text in cycle([*texts[first:], *texts[:first]]):
            models[number].answer(text)
            answered[number] += 1
            if time.perf_counter() >= end:
                return

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(models))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answered) / (time.perf_counter() - started)


def _key(bundle: Bundle, cores: int) -> str:
    machine = describe_machine()
    words = (machine.cpu, *machine.isa, str(cores), bundle.digest)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:32]


def _read(path: Path) -> Tuned | None:
    """None where there is none, or one that cannot be read: it is measured again."""
    if not path.exists():
        return None
    try:
        return Tuned.read(path)
    except EdgeloopError as problem:
        logger.warning("event=tuning_unreadable problem=%s", problem)
        return None


def _measure_apart(bundle: Bundle, cores: int, path: Path) -> Tuned | None:
    """In a process of its own: the server keeps none of the sessions that were tried in memory."""
    command = module_command("serve.autotune", str(bundle.path), str(cores), str(path))
    environment = module_environment(TOKENIZERS_PARALLELISM="false")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=MOST_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        logger.warning("event=not_tuned problem=%s", problem)
        return None
    if done.returncode != 0:
        logger.warning("event=not_tuned problem=%s", last_line(done.stderr))
        return None
    return _read(path)


def main(arguments: Sequence[str]) -> None:
    """python -m serve.autotune BUNDLE CORES FILE"""
    folder, cores, path = arguments
    found = measure(open_bundle(Path(folder)), arrangements(int(cores)))
    write_atomic(Path(path), found.to_bytes())


if __name__ == "__main__":
    main(sys.argv[1:])

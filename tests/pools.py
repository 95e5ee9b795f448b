"""Engines that can be held still, by threads and by processes, over the same real model."""

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from edgeloop.models import Model, open_model
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, RowOutput
from serve.engine import Engine, ThreadEngine
from serve.jobs import Job, Reader
from serve.metrics import ServeMetrics
from serve.process_engine import ProcessEngine
from serve.worker_maker import WorkerMaker
from serve.worker_pool import OUTSTANDING, WorkerPool
from tests import tiny

MAX_TOKENS = 64
WAIT_SECONDS = 20.0
READER = Reader("text-classification", tiny.LABELS)


class Gated:
    """A model that answers while its gate is open."""

    def __init__(self, model: Model) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self._model = model

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        assert self.gate.wait(WAIT_SECONDS)
        return self._model.answer(text, truncate)

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        return self._model.score(texts)


@dataclass
class Threads:
    """One thread."""

    engine: Engine
    model: Gated
    takes = 1  # how many texts it has when it is held

    def hold(self) -> None:
        self.model.gate.clear()

    def release(self) -> None:
        self.model.gate.set()


@dataclass
class Processes:
    """One process."""

    engine: Engine
    pool: WorkerPool
    takes = OUTSTANDING

    def hold(self) -> None:
        signal_all(self.pool, signal.SIGSTOP)

    def release(self) -> None:
        signal_all(self.pool, signal.SIGCONT)


Held = Threads | Processes


def signal_all(pool: WorkerPool, number: int) -> None:
    for pid in pool.pids():
        os.kill(pid, number)


def metrics() -> ServeMetrics:
    return ServeMetrics(CollectorRegistry(), "tiny")


@contextmanager
def pool_of(size: int, told: ServeMetrics | None = None) -> Iterator[WorkerPool]:
    with WorkerMaker() as maker:
        pool = WorkerPool(size, maker, told or metrics())
        pool.start()
        try:
            yield pool
        finally:
            pool.close()


@contextmanager
def engine_in(
    pool: WorkerPool, folder: Path, queue_texts: int = 64, cache_texts: int = 0
) -> Iterator[ProcessEngine]:
    engine = ProcessEngine(pool, folder, MAX_TOKENS, READER, queue_texts, cache_texts)
    try:
        yield engine
    finally:
        signal_all(pool, signal.SIGCONT)
        engine.close()
        engine.join(WAIT_SECONDS)


@contextmanager
def held_threads(folder: Path, queue_texts: int, cache_texts: int = 0) -> Iterator[Threads]:
    model = Gated(open_model(folder, MAX_TOKENS))
    engine = ThreadEngine([model], READER, queue_texts, cache_texts)
    try:
        yield Threads(engine, model)
    finally:
        model.gate.set()
        engine.close()
        engine.join(WAIT_SECONDS)


def job(*texts: TextInput, truncate: bool = True, seconds: float = WAIT_SECONDS) -> Job:
    return Job(texts, truncate, time.monotonic() + seconds)


def submitted(engine: Engine, *texts: TextInput, truncate: bool = True) -> Job:
    made = job(*texts, truncate=truncate)
    engine.submit(made)
    return made

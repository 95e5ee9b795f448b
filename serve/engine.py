"""From texts to scores by K threads that run the model, one text per run.

How many threads there are, and whether they share a session, is measured (serve/autotune.py).
What becomes of a text before and after that is in serve/queueing.py; serve/process_engine.py runs
the model in other processes.
"""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.models import Model, begin_of, rest_of
from edgeloop.runtime import Answered
from serve.autotune import Threads, open_models
from serve.jobs import Job, Reader
from serve.process_engine import ProcessEngine
from serve.queueing import Queueing, Work, waited_seconds
from serve.worker_pool import WorkerPool

logger = logging.getLogger(__name__)


class Engine(Protocol):
    """Answers jobs through their futures: a list of Scored in the order of the texts, or Expired,
    TooLong or EngineError."""

    def submit(self, job: Job) -> None:
        """Answer at once, or queue, all texts of a job or none. Raises QueueFull, Unhealthy."""
        ...

    def expire(self, job: Job) -> None:
        """Fail the job with Expired if any of its texts is still queued."""
        ...

    def healthy(self) -> bool:
        """False once a thread has died, or while no process is left."""
        ...

    def queued_texts(self) -> int:
        """How many texts wait to be taken."""
        ...

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        ...

    def close(self) -> None:
        """Stop after the last queued job; returns at once."""
        ...

    def join(self, timeout_seconds: float) -> None:
        """Wait for that after close()."""
        ...


class ThreadEngine(Queueing):
    """The Engine for a model in this process."""

    def __init__(
        self,
        models: Sequence[Model],
        reader: Reader,
        queue_texts: int,
        cache_texts: int = 0,
    ) -> None:
        """`models`: one per thread, which may be the same one."""
        begin, workers = begin_of(models[0]), len(models)
        super().__init__(begin, reader, queue_texts, cache_texts, workers, threading.Condition())
        self._dead: set[int] = set()  # threads, by their ident
        self._threads = [
            threading.Thread(target=self._work, args=(model,), name=f"engine-{i}", daemon=True)
            for i, model in enumerate(models)
        ]
        for thread in self._threads:
            thread.start()

    def healthy(self) -> bool:
        """False once a thread has died."""
        return not self._dead

    def close(self) -> None:
        """Stop after the last queued job; returns at once."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout_seconds: float) -> None:
        """Wait for the threads after close()."""
        end = time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _can_answer(self) -> bool:
        return len(self._dead) < len(self._threads)

    def _queued_more(self, texts: int) -> None:
        self._changed.notify(texts)

    # -- answering: on the threads ---------------------------------------------------------------

    def _work(self, model: Model) -> None:
        try:
            while (work := self._take()) is not None:
                self._answer(work, model)
        except BaseException:
            logger.exception("event=inference_thread_died")
            with self._changed:
                self._dead.add(threading.get_ident())
                if not self._can_answer():
                    self._fail_queued(EngineError("every inference thread has died"))

    def _take(self) -> Work | None:
        """The next text that is still wanted; None when the engine is closed and empty."""
        with self._changed:
            while (work := self._next()) is None:
                if self._closing:
                    return None
                self._changed.wait()
            return work

    def _answer(self, work: Work, model: Model) -> None:
        started = time.monotonic()
        queue_seconds = waited_seconds(work, started)
        try:
            answered = _ask(model, work)
            took_seconds = time.monotonic() - started
            scored = self._scored(work.key[0], answered, queue_seconds, took_seconds)
        except BaseException as problem:
            with self._changed:
                if not isinstance(problem, Exception):
                    # Before the job is settled: whoever asks then must be told.
                    self._dead.add(threading.get_ident())
                self._fail_all(work, problem)
            if not isinstance(problem, Exception):
                raise
            return
        with self._changed:
            self._answered(work, scored, started)


def _ask(model: Model, work: Work) -> Answered:
    text, truncate = work.key
    if work.finish is None:
        return model.answer(text, truncate)
    return work.finish(rest_of(model).answer(text, truncate))


def open_engine(
    bundle: Bundle,
    threads: Threads,
    queue_texts: int,
    cache_texts: int = 0,
    pool: WorkerPool | None = None,
) -> Engine:
    """Load a bundle's model: into the pool's processes, where there is one and the model is not
    answered on the event loop anyway. Raises EngineError where it does not load."""
    manifest = bundle.manifest
    reader = Reader(manifest.task, manifest.labels, manifest.abstain_below)
    if pool is not None and manifest.engine != "linear":
        max_tokens = manifest.max_tokens
        return ProcessEngine(pool, bundle.path, max_tokens, reader, queue_texts, cache_texts)
    return ThreadEngine(open_models(bundle, threads), reader, queue_texts, cache_texts)

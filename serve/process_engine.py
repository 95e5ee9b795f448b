"""The engine whose model runs in processes of its own (serve/worker_pool.py): the event loop never
waits for a thread that has Python's lock, and has no more to do with a text than to send it.
"""

from pathlib import Path

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.models import open_begin
from serve.jobs import Reader
from serve.queueing import Queueing, Work, waited_seconds
from serve.worker_messages import Failed, Told
from serve.worker_pool import WorkerPool


class ProcessEngine(Queueing):
    """The Engine of a model that a pool's processes run. A text counts as taken once it was sent;
    a cascade's linear first stage is asked here."""

    def __init__(
        self,
        pool: WorkerPool,
        folder: Path,
        max_tokens: int,
        reader: Reader,
        queue_texts: int,
        cache_texts: int = 0,
    ) -> None:
        """Raises EngineError where the model does not load."""
        begin = open_begin(folder, max_tokens)
        super().__init__(begin, reader, queue_texts, cache_texts, pool.size, pool.changed)
        self.model = pool.open(folder.absolute(), max_tokens)
        self._pool = pool
        self._sent = 0
        self._left = False
        pool.join(self)

    def healthy(self) -> bool:
        """False while no process is left."""
        return self._pool.healthy()

    def close(self) -> None:
        """Let the processes forget the model after the last queued text; returns at once."""
        with self._changed:
            self._closing = True
            self._leave_if_done()

    def join(self, timeout_seconds: float) -> None:
        """Wait for that after close()."""
        with self._changed:
            self._changed.wait_for(lambda: self._left, timeout_seconds)

    def _can_answer(self) -> bool:
        return self._pool.healthy()

    def _queued_more(self, texts: int) -> None:
        if texts:
            self._pool.dispatch()

    # -- for the pool; its lock, which is this engine's too, is held -----------------------------

    def oldest(self) -> float | None:
        """When the oldest text that waits was submitted; None without any."""
        for work in self._queue:
            if not work.dropped:
                return work.wanted[0][0].submitted
        return None

    def take(self) -> Work | None:
        """The next text to be sent."""
        work = self._next()
        self._sent += work is not None
        return work

    def answer(self, work: Work, told: Told | Failed) -> None:
        """What became of a text that was sent."""
        if isinstance(told, Failed):
            problem = TextTooLong if told.too_long else EngineError
            self.fail(work, problem(told.problem))
            return
        try:
            answered = told.answered()
            if work.finish is not None:
                answered = work.finish(answered)
            waited = waited_seconds(work, told.started)
            scored = self._scored(work.key[0], answered, waited, told.seconds)
        except Exception as problem:
            self.fail(work, problem)
            return
        self._sent -= 1
        self._answered(work, scored, told.started)
        self._leave_if_done()

    def fail(self, work: Work, problem: Exception) -> None:
        """It could not be answered."""
        self._sent -= 1
        self._fail_all(work, problem)
        self._leave_if_done()

    def left_alone(self) -> None:
        """No process is left."""
        self._fail_queued(EngineError("every inference process has ended"))
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._closing and not self._left and not self._queued and not self._sent:
            self._left = True
            self._pool.leave(self)
            self._changed.notify_all()

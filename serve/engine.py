"""From texts to scores: one queue, K threads that run the model, one text per run.

A text is scored alone, so that no answer depends on the company it came in (dynamic int8 takes
one activation scale for the whole batch), and because batches in order of arrival lose more to
padding than they win. Threads share one session: ONNX Runtime lets go of the GIL while it runs. A
linear model keeps it; its threads take turns of a tenth of a millisecond.
"""

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError, TextTooLong
from edgeloop.models import Model, open_model
from edgeloop.rows import TextInput
from edgeloop.runtime import ONLY_STAGE, RowOutput
from edgeloop.tasks import TASKS, Answer

logger = logging.getLogger(__name__)

# Weight of the newest run in the smoothed inference time that Retry-After is computed from.
SMOOTHING = 0.1


class QueueFull(Exception):
    """The request does not fit in the queue; carries when to try again."""

    def __init__(self, retry_after_seconds: float) -> None:
        super().__init__(f"the queue is full, try again in {retry_after_seconds:.3f} s")
        self.retry_after_seconds = retry_after_seconds


class Expired(Exception):
    """A text of the request was still queued at its deadline."""


class TooLong(Exception):
    """The text at `index` has more tokens than the model takes, and may not be cut."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class Unhealthy(Exception):
    """No thread is left to answer."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One text's or pair's answer: probabilities (class_names,) as its task has them, float64;
    seconds from submission to the start, and of tokenizing and inference."""

    text: TextInput
    tokens: int
    output: RowOutput
    answer: Answer
    probabilities: NDArray[np.float64]
    abstained: bool
    queue_seconds: float
    inference_seconds: float
    stage: str = ONLY_STAGE


@dataclass(eq=False, slots=True)
class Job:
    """The texts or pairs of one request. `deadline` is in time.monotonic() seconds."""

    texts: Sequence[TextInput]
    truncate: bool
    deadline: float
    future: Future[list[Scored]] = field(default_factory=Future)
    submitted: float = 0.0
    taken: int = 0
    scores: dict[int, Scored] = field(default_factory=dict)

    def waiting(self) -> int:
        """How many texts no thread has taken yet."""
        return len(self.texts) - self.taken


class Reader:
    """What the model's numbers mean, by the bundle's task. An answer of a score under
    `abstain_below` is out of scope."""

    def __init__(
        self, task: str, labels: Sequence[str], abstain_below: float | None = None
    ) -> None:
        self._task = TASKS[task]
        self._labels = labels
        self._width = self._task.width(labels)
        self._below = -math.inf if abstain_below is None else abstain_below

    def read(self, output: RowOutput) -> tuple[Answer, NDArray[np.float64], bool]:
        """The answer, the probabilities of the class names, and whether the answer is out of scope.

        Raises EngineError where the numbers are not finite or not those of the labels.
        """
        numbers = output.logits if self._width else output.embedding
        if not np.isfinite(numbers).all():
            raise EngineError("the model's answer is not finite; run `edgeloop bundle verify`")
        width = output.logits.shape[-1]
        if width != self._width:
            raise EngineError(
                f"the model answers with {width} numbers, the manifest's {len(self._labels)} "
                f"labels need {self._width}"
            )
        answer = self._task.answer(output, self._labels)
        probabilities = self._task.probabilities(output, self._labels)
        return answer, probabilities, answer.score < self._below


class Engine(Protocol):
    """Answers jobs through their futures: a list of Scored in the order of the texts, or Expired,
    TooLong or EngineError."""

    def submit(self, job: Job) -> None:
        """Queue all texts of a job or none. Raises QueueFull, Unhealthy."""
        ...

    def expire(self, job: Job) -> None:
        """Fail the job with Expired if any of its texts is still queued."""
        ...

    def healthy(self) -> bool:
        """False once a thread has died."""
        ...

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        ...

    def close(self) -> None:
        """Stop after the last queued job; returns at once."""
        ...

    def join(self, timeout_seconds: float) -> None:
        """Wait for the threads after close()."""
        ...


class ThreadEngine:
    """The Engine for a model in this process."""

    def __init__(self, model: Model, reader: Reader, workers: int, queue_texts: int) -> None:
        self._model = model
        self._reader = reader
        self._limit = queue_texts
        self._queue: deque[Job] = deque()
        self._queued = 0  # texts, not jobs
        self._mean_seconds = 0.0
        self._closing = False
        self._changed = threading.Condition()
        self._dead: set[int] = set()  # threads, by their ident
        self._threads = [
            threading.Thread(target=self._work, name=f"engine-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Queue all texts of a job or none. Raises QueueFull, Unhealthy."""
        with self._changed:
            if self._closing or len(self._dead) == len(self._threads):
                raise Unhealthy("no inference thread is left; restart the server")
            if self._queued + len(job.texts) > self._limit:
                raise QueueFull(self._queued * self._mean_seconds / len(self._threads))
            # RUNNING futures cannot be cancelled from outside: only the engine settles a job.
            job.future.set_running_or_notify_cancel()
            job.submitted = time.monotonic()
            self._queue.append(job)
            self._queued += len(job.texts)
            self._changed.notify(len(job.texts))

    def expire(self, job: Job) -> None:
        """Fail the job with Expired if any of its texts is still queued."""
        with self._changed:
            if job.waiting():
                self._fail(job, Expired())

    def healthy(self) -> bool:
        """False once a thread has died."""
        return not self._dead

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        with self._changed:
            self._limit = queue_texts

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

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                self._answer(*taken)
        except BaseException:
            logger.exception("event=inference_thread_died")
            with self._changed:
                self._dead.add(threading.get_ident())
                if len(self._dead) == len(self._threads):
                    for job in list(self._queue):
                        self._fail(job, EngineError("every inference thread has died"))

    def _take(self) -> tuple[Job, int] | None:
        """The next text that is still wanted; None when the engine is closed and empty."""
        with self._changed:
            while True:
                while not self._queue:
                    if self._closing:
                        return None
                    self._changed.wait()
                job = self._queue[0]
                if time.monotonic() >= job.deadline:
                    self._fail(job, Expired())
                    continue
                index = job.taken
                job.taken += 1
                self._queued -= 1
                if not job.waiting():
                    self._queue.popleft()
                return job, index

    def _answer(self, job: Job, index: int) -> None:
        try:
            scored = self._score(job, index)
        except BaseException as problem:
            with self._changed:
                if not isinstance(problem, Exception):
                    # Before the job is settled: whoever asks then must be told.
                    self._dead.add(threading.get_ident())
                self._fail(job, problem if isinstance(problem, Exception) else EngineError("died"))
            if not isinstance(problem, Exception):
                raise
            return
        with self._changed:
            self._mean_seconds += SMOOTHING * (scored.inference_seconds - self._mean_seconds)
            job.scores[index] = scored
            if len(job.scores) == len(job.texts) and not job.future.done():
                job.future.set_result([job.scores[i] for i in range(len(job.texts))])

    def _score(self, job: Job, index: int) -> Scored:
        text = job.texts[index]
        started = time.monotonic()
        try:
            answered = self._model.answer(text, job.truncate)
        except TextTooLong:
            raise TooLong(index) from None
        answer, probabilities, abstained = self._reader.read(answered.output)
        return Scored(
            text=text,
            tokens=answered.tokens,
            output=answered.output,
            answer=answer,
            probabilities=probabilities,
            abstained=abstained,
            queue_seconds=started - job.submitted,
            inference_seconds=time.monotonic() - started,
            stage=answered.stage,
        )

    def _fail(self, job: Job, problem: Exception) -> None:
        """Settle a job and take what is left of it out of the queue. The lock is held."""
        if job.waiting():
            self._queue.remove(job)
            self._queued -= job.waiting()
            job.taken = len(job.texts)
        if not job.future.done():
            job.future.set_exception(problem)


def open_engine(bundle: Bundle, workers: int, queue_texts: int) -> ThreadEngine:
    """Load a bundle's model. Raises EngineError where it does not load."""
    manifest = bundle.manifest
    model = open_model(bundle.path, manifest.max_tokens)
    reader = Reader(manifest.task, manifest.labels, manifest.abstain_below)
    return ThreadEngine(model, reader, workers, queue_texts)

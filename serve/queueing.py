"""What every engine does with jobs before and after the model: one queue, each text once.

A text is scored alone, so that no answer depends on the company it came in (dynamic int8 takes
one activation scale for the whole batch), and because batches in order of arrival lose more to
padding than they win.

What takes no longer than handing it on is answered where the request is: by a linear model, by a
cascade's linear first stage, from the cache. A text that is queued or being answered for another
request is not answered twice.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace

from edgeloop.cascade import Finish
from edgeloop.errors import EngineError, TextTooLong
from edgeloop.models import Begin
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered
from serve.jobs import Expired, Job, QueueFull, Reader, Scored, TooLong, Unhealthy

# Weight of the newest run in the smoothed inference time that waits are predicted from.
SMOOTHING = 0.1
# Of the time that a request has, how much it may be expected to wait: a machine that slows down
# afterwards must not make liars of those who were told that they would be answered.
SURE_SHARE = 0.7
# A request of more texts leaves the event loop to others, however quick each of them is.
QUICK_TEXTS = 8

Key = tuple[TextInput, bool]


@dataclass(eq=False, slots=True)
class Work:
    """One text to be answered, and who wants the answer: jobs with the text's place in each.
    `finish`: the text was begun already, and only the rest of the model is asked."""

    key: Key
    finish: Finish | None
    wanted: list[tuple[Job, int]] = field(default_factory=list)
    taken: bool = False
    dropped: bool = False


class Cache:
    """The newest answers by their texts. Not thread-safe: the engine's lock is held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[Key, Scored] = OrderedDict()

    def get(self, key: Key) -> Scored | None:
        """The answer, which becomes the newest one."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: Key, scored: Scored) -> None:
        """Keep an answer; the oldest one goes where there are too many."""
        if not self._limit:
            return
        self._kept[key] = scored
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)


class Queueing(ABC):
    """Admits jobs, and settles them. Who answers takes texts from it and brings the answers back,
    `workers` at a time; `changed` is its lock."""

    def __init__(
        self,
        begin: Begin | None,
        reader: Reader,
        queue_texts: int,
        cache_texts: int,
        workers: int,
        changed: threading.Condition,
    ) -> None:
        self._begin = begin
        self._reader = reader
        self._limit = queue_texts
        self._cache = Cache(cache_texts)
        self._workers = workers
        self._changed = changed
        self._queue: deque[Work] = deque()
        self._queued = 0  # what is still wanted of the queue
        self._works: dict[Key, Work] = {}  # queued or being answered
        self._mean_seconds = 0.0
        self._mean_gap_seconds = 0.0
        self._answered_at, self._was_queued = 0.0, False
        self._closing = False

    def submit(self, job: Job) -> None:
        """Answer at once, or queue, all texts of a job or none. Raises QueueFull, where the queue
        has no room or would take longer than the job has time, and Unhealthy."""
        job.submitted = time.monotonic()
        begun = self._begin_all(job)
        with self._changed:
            if self._closing or not self._can_answer():
                raise Unhealthy("nothing is left that runs the model; restart the server")
            rest = [i for i in begun if not self._known(job, i)]
            new = sum((job.texts[i], job.truncate) not in self._works for i in rest)
            self._admit(job, new)
            # RUNNING futures cannot be cancelled from outside: only the engine settles a job.
            if not job.future.done():
                job.future.set_running_or_notify_cancel()
                for i in rest:
                    self._enqueue(job, i, begun[i])
                self._queued_more(new)
        job.settle()

    def expire(self, job: Job) -> None:
        """Fail the job with Expired if any of its texts is still queued."""
        with self._changed:
            if job.waiting():
                self._fail(job, Expired())

    def queued_texts(self) -> int:
        """How many texts wait to be taken."""
        return self._queued

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        with self._changed:
            self._limit = queue_texts

    # -- for those who answer; the lock is held --------------------------------------------------

    @abstractmethod
    def _can_answer(self) -> bool:
        """Is anybody left who answers?"""

    @abstractmethod
    def _queued_more(self, texts: int) -> None:
        """So many texts were queued."""

    def _next(self) -> Work | None:
        """Take the next text that is still wanted; None where none is queued."""
        while self._queue:
            work = self._queue.popleft()
            now = time.monotonic()
            for job, _ in list(work.wanted):
                if now >= job.deadline:
                    self._fail(job, Expired())
            if work.dropped:
                continue
            self._queued -= 1
            work.taken = True
            for job, _ in work.wanted:
                job.queued -= 1
            return work
        return None

    def _answered(self, work: Work, scored: Scored, started: float) -> None:
        """Hand out an answer that was begun at `started`."""
        self._mean_seconds += SMOOTHING * (scored.inference_seconds - self._mean_seconds)
        self._see_gap()
        self._works.pop(work.key, None)
        self._cache.put(work.key, scored)
        first, _ = work.wanted[0]
        for job, index in work.wanted:
            job.scores[index] = scored if job is first else _for(job, scored, started)
            job.settle()

    def _fail_all(self, work: Work, problem: BaseException) -> None:
        """Settle every job that wants the text."""
        for job, index in list(work.wanted):
            self._fail(job, _told(problem, index))
        self._works.pop(work.key, None)

    def _fail_queued(self, problem: EngineError) -> None:
        """Settle every job that waits."""
        for work in list(self._queue):
            self._fail_all(work, problem)

    # -- admission: on the thread that asks ------------------------------------------------------

    def _begin_all(self, job: Job) -> dict[int, Finish | None]:
        """Answer what is quick; of the other texts, what finishes their answers."""
        if self._begin is None or len(job.texts) > QUICK_TEXTS:
            return dict.fromkeys(range(len(job.texts)))
        rest: dict[int, Finish | None] = {}
        for i, text in enumerate(job.texts):
            started = time.monotonic()
            try:
                begun = self._begin(text, job.truncate)
                if isinstance(begun, Answered):
                    job.scores[i] = self._scored(text, begun, 0.0, time.monotonic() - started)
                else:
                    rest[i] = begun
            except Exception as problem:
                job.future.set_exception(_told(problem, i))
                return {}
        return rest

    def _known(self, job: Job, index: int) -> bool:
        """Is the answer in the cache? Then the job has it."""
        if not job.may_cache:
            return False
        found = self._cache.get((job.texts[index], job.truncate))
        if found is not None:
            job.scores[index] = replace(found, queue_seconds=0.0, inference_seconds=0.0)
        return found is not None

    def _admit(self, job: Job, new: int) -> None:
        """Raises QueueFull. The lock is held."""
        wait_seconds = self._queued * self._seconds_per_text()
        left_seconds = job.deadline - job.submitted
        too_late = self._queued > 0 and wait_seconds > SURE_SHARE * left_seconds
        if new and (self._queued + new > self._limit or too_late):
            raise QueueFull(wait_seconds)

    def _seconds_per_text(self) -> float:
        """At which the queue becomes shorter: as it was seen to, where that is slower than the
        workers would be by themselves. Under overload they wait for the event loop as well."""
        return max(self._mean_seconds / self._workers, self._mean_gap_seconds)

    def _enqueue(self, job: Job, index: int, finish: Finish | None) -> None:
        """The lock is held."""
        key = (job.texts[index], job.truncate)
        work = self._works.get(key)
        if work is None:
            work = self._works[key] = Work(key, finish)
            self._queue.append(work)
            self._queued += 1
        work.wanted.append((job, index))
        job.queued += not work.taken

    def _scored(
        self, text: TextInput, answered: Answered, queue_seconds: float, inference_seconds: float
    ) -> Scored:
        answer, probabilities, abstained = self._reader.read(answered.output)
        return Scored(
            text=text,
            tokens=answered.tokens,
            output=answered.output,
            answer=answer,
            probabilities=probabilities,
            abstained=abstained,
            queue_seconds=queue_seconds,
            inference_seconds=inference_seconds,
            stage=answered.stage,
            unknown_tokens=answered.unknown_tokens,
        )

    # -- settling: the lock is held --------------------------------------------------------------

    def _see_gap(self) -> None:
        """Time from answer to answer, of those behind which others waited."""
        now = time.monotonic()
        if self._was_queued:
            gap = now - self._answered_at
            self._mean_gap_seconds += SMOOTHING * (gap - self._mean_gap_seconds)
        else:
            self._mean_gap_seconds *= 1.0 - SMOOTHING
        self._answered_at, self._was_queued = now, self._queued > 0

    def _fail(self, job: Job, problem: Exception) -> None:
        """Settle a job, and drop what nobody else wants of the queue."""
        if not job.future.done():
            job.future.set_exception(problem)
        for text in job.texts:
            work = self._works.get((text, job.truncate))
            if work is None or work.taken:
                continue
            work.wanted = [(other, i) for other, i in work.wanted if other is not job]
            if not work.wanted:
                work.dropped = True
                self._queued -= 1
                del self._works[work.key]
        job.queued = 0


def waited_seconds(work: Work, started: float) -> float:
    """How long the first job that wants the text waited for it."""
    return max(0.0, started - work.wanted[0][0].submitted)


def _for(job: Job, scored: Scored, started: float) -> Scored:
    """The answer that another job's text got, as this job waited for it."""
    return replace(scored, queue_seconds=max(0.0, started - job.submitted))


def _told(problem: BaseException, index: int) -> Exception:
    """What the job at whose place `index` it happened is told."""
    if isinstance(problem, TextTooLong):
        return TooLong(index)
    return problem if isinstance(problem, Exception) else EngineError("died")

"""A bundle on trial: which requests are its own, and the comparison of its answers with the stable
one's, after the clients have theirs.

A canary answers its share of the clients itself; the stable bundle then scores the same texts. A
shadow answers nobody: it scores a sampled share of what the stable bundle answered. One text is
compared at a time; what does not fit in the queue is dropped and counted.
"""

import asyncio
import hashlib
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeloop.rows import TextInput
from serve.engine import Engine
from serve.jobs import Job, QueueFull, Scored
from serve.judge import FINE, Judge
from serve.lifecycle_config import TrialSection
from serve.metrics import CANARY, ServeMetrics

if TYPE_CHECKING:
    from serve.slot import Active

QUEUE_TEXTS = 256
UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Answered:
    """A text and its answer; None where it was not answered."""

    text: TextInput
    truncate: bool
    scored: Scored | None


class Trial:
    """One bundle on trial against `stable`. Lives on the event loop."""

    def __init__(
        self,
        variant: str,
        active: "Active",
        stable: "Active",
        rules: TrialSection,
        metrics: ServeMetrics,
    ) -> None:
        active.variant = variant
        self.variant = variant
        self.active = active
        self.stable = stable
        self.rules = rules
        self.judge = Judge(rules)
        self.dropped = 0
        self.passed = False
        self._metrics = metrics
        self._random = random.Random()
        self._waiting: deque[Answered] = deque()
        self._arrived = asyncio.Event()

    def has_client(self, key: bytes) -> bool:
        """Is this one of the canary's clients? Always the same answer for a key."""
        salted = hashlib.blake2b(key, digest_size=8, key=self.active.bundle.digest[:32].encode())
        place = int.from_bytes(salted.digest(), "big") / 2.0**64
        return place < self.rules.share and self.active.engine.healthy()

    def sampled(self) -> bool:
        """Is this request one that the shadow scores?"""
        return self._random.random() < self.rules.share

    def offer(self, job: Job, answers: Sequence[Scored] | None) -> None:
        """Queue a request's texts for the comparison; returns at once. Of a request that failed
        the first."""
        if answers is None:
            self._queue(Answered(job.texts[0], job.truncate, None))
            return
        for answer in answers:
            self._queue(Answered(answer.text, job.truncate, answer))

    async def run(self) -> str:
        """Compare until there is a verdict that ends the trial: worse, unhealthy, or fine where
        it is to be promoted."""
        while True:
            if not self.active.engine.healthy():
                return UNHEALTHY
            answered = await self._next()
            if answered is None:
                continue
            await self._compare(answered)
            verdict = self.judge.verdict()
            if verdict is not None and (verdict != FINE or not self.passed):
                self.passed = verdict == FINE
                return verdict

    async def _next(self) -> Answered | None:
        """The next text; None once a second, so that a thread that died is seen without traffic."""
        if not self._waiting:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), 1.0)
            except TimeoutError:
                return None
        return self._waiting.popleft()

    def _queue(self, answered: Answered) -> None:
        if len(self._waiting) >= QUEUE_TEXTS:
            self._drop()
            return
        self._waiting.append(answered)
        self._arrived.set()

    def _drop(self) -> None:
        self.dropped += 1
        self._metrics.trials.drop(self.variant)

    async def _compare(self, answered: Answered) -> None:
        other = self.stable if self.variant == CANARY else self.active
        job = Job(
            [answered.text],
            answered.truncate,
            time.monotonic() + other.bundle.manifest.deadline_ms / 1000.0,
            may_cache=False,
        )
        try:
            scored = await _score(other.engine, job)
        except QueueFull:
            self._drop()
            return
        if self.variant == CANARY:
            self.judge.take(stable=scored, trial=answered.scored)
        else:
            if scored is not None:
                self._metrics.scored([scored], other.class_names, self.variant)
            self.judge.take(stable=answered.scored, trial=scored)
        self._metrics.trials.show(self.variant, self.judge.standing())


async def _score(engine: Engine, job: Job) -> Scored | None:
    """The answer to a job of one text; None where there is none. Raises QueueFull."""
    try:
        engine.submit(job)
    except QueueFull:
        raise
    except Exception:  # no thread is left to answer
        return None
    left_seconds = job.deadline - time.monotonic()
    timer = asyncio.get_running_loop().call_later(left_seconds, engine.expire, job)
    try:
        return (await asyncio.wrap_future(job.future))[0]
    except asyncio.CancelledError:
        raise
    except Exception:  # whatever it is, the text has no answer
        return None
    finally:
        timer.cancel()

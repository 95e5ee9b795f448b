"""What a request asks of an engine, and what it gets: jobs, answers, and how a job can fail."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import EngineError
from edgeloop.rows import TextInput
from edgeloop.runtime import ONLY_STAGE, RowOutput
from edgeloop.tasks import TASKS, Answer


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
    unknown_tokens: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """The texts or pairs of one request. `deadline` is in time.monotonic() seconds; without
    `may_cache` the model answers, whatever the cache knows."""

    texts: Sequence[TextInput]
    truncate: bool
    deadline: float
    may_cache: bool = True
    future: Future[list[Scored]] = field(default_factory=Future)
    submitted: float = 0.0
    queued: int = 0
    scores: dict[int, Scored] = field(default_factory=dict)

    def waiting(self) -> int:
        """How many texts no thread has taken yet."""
        return self.queued

    def settle(self) -> None:
        """Hand out the answers where every text has its own."""
        if len(self.scores) == len(self.texts) and not self.future.done():
            self.future.set_result([self.scores[i] for i in range(len(self.texts))])


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
        # The sum of finite numbers of this size is finite; that of others is not.
        if not math.isfinite(float(np.add.reduce(numbers, axis=None))):
            raise EngineError("the model's answer is not finite; run `edgeloop bundle verify`")
        width = output.logits.shape[-1]
        if width != self._width:
            raise EngineError(
                f"the model answers with {width} numbers, the manifest's {len(self._labels)} "
                f"labels need {self._width}"
            )
        answer, probabilities = self._task.read(output, self._labels)
        return answer, probabilities, answer.score < self._below

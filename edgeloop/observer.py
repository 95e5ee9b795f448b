"""What the server tells the drift monitor. `serve` knows the monitor only by this protocol; the
command line puts the two together.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.records import Verdict
from edgeloop.tasks import Answer

NO_ANSWER = Answer()


@dataclass(frozen=True, slots=True)
class Observation:
    """One answered text or pair: embedding (hidden,) float32, probabilities (classes,) float64; how
    many tokens the model read and how many of them it does not know; its answer."""

    text: str
    embedding: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    tokens: int
    unknown_tokens: int = 0
    answer: Answer = NO_ANSWER


@dataclass(frozen=True, slots=True)
class ObserverStatus:
    """Where the drift monitor stands."""

    armed: bool
    observations: int
    skipped: int
    log_evidence: float
    threshold: float
    target_run_length: int
    verified_run_length: float
    alarms: int
    alarmed: bool


class Observer(Protocol):
    """Watches the traffic of one bundle; called once per answered text, in order."""

    def observe(self, observation: Observation) -> Verdict | None:
        """Take one observation; a verdict is returned once, at the alarm."""
        ...

    def status(self) -> ObserverStatus:
        """A snapshot for /metrics and /drift."""
        ...

    def state(self) -> bytes:
        """What restore() of an observer of the same bundle needs to go on exactly as this one
        would. Called between two observations, on their thread."""
        ...

    def restore(self, state: bytes) -> None:
        """Go on from a state. Raises MonitorError where it is damaged, of another bundle or of
        another version; the observer is then as it was."""
        ...

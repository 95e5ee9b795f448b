"""What the server tells the drift monitor. `serve` knows the monitor only by this protocol; the
command line puts the two together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.records import Verdict
from edgeloop.rows import TextInput, whole_text
from edgeloop.runtime import Answered
from edgeloop.tasks import Answer, Task

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


def observed(text: TextInput, answered: Answered, task: Task, labels: Sequence[str]) -> Observation:
    """What the monitor is told of a text or pair and a model's answer to it."""
    answer, probabilities = task.read(answered.output, labels)
    return Observation(
        whole_text(text),
        answered.output.embedding,
        probabilities,
        answered.tokens,
        answered.unknown_tokens,
        answer,
    )


LabelSource = Literal["feedback", "audit", "captured", "captured_unsure"]


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label that somebody gave a row, and what the bundle answers to it: probabilities (classes,)
    float64, and whether the answer is `right`.

    `position` grows from label to label; `corrects`: the row had another label before.

    `source` says how the row came to be labelled: "feedback", nobody knows; "audit", drawn
    uniformly; "captured", by the capture's uniform share, "captured_unsure", by its draw of unsure
    answers alone, both with their `inclusion_probability`.
    """

    id: str
    position: int
    probabilities: NDArray[np.float64]
    right: bool
    source: LabelSource = "feedback"
    inclusion_probability: float = 1.0
    corrects: bool = False


@dataclass(frozen=True, slots=True)
class Estimated:
    """A figure and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure and its confidence bounds."""

    lower: float
    estimate: float
    upper: float


@dataclass(frozen=True, slots=True)
class AccuracyStatus:
    """How accurate the bundle is: `reference`, on its reference rows; `atc` and `cbpe`, estimated
    without labels over the last `window_rows` texts (`gap`: their distance); `anchored`, put right
    with the `audit_rows` labels of rows drawn at random; `labelled`, of the last `labelled_rows`
    labels. None is what is not known yet.

    `labels` were counted since the bundle began to answer, up to `label_position`; `corrections`
    changed one of them, `late_corrections` came too late to. errors_*: the detector of concept
    drift.
    """

    floor: float
    reference: float
    window_rows: int = 0
    atc: Estimated | None = None
    cbpe: Estimated | None = None
    gap: float | None = None
    anchored: Bounded | None = None
    audit_rows: int = 0
    labelled: Bounded | None = None
    labelled_rows: int = 0
    labels: int = 0
    corrections: int = 0
    late_corrections: int = 0
    label_position: int = 0
    calibration_error: float | None = None
    estimate_below_floor: bool = False
    errors_log_evidence: float = 0.0
    errors_threshold: float = 0.0
    errors_alarmed: bool = False
    errors_alarms: int = 0


@dataclass(frozen=True, slots=True)
class ObserverStatus:
    """Where the drift monitor stands.

    `log_evidence` and `threshold` are the primary detector's; `evidence_ratios` has each
    detector's evidence over its threshold, and from an alarm on at least what it was then, until
    the traffic is quiet again. `effect_size`: the distance between recent rows and the reference,
    in standard deviations. `burst_evidence_ratio`: from 1 on, traffic comes in longer bursts than
    the reference did, and its promise does not cover it.
    """

    armed: bool
    observations: int
    skipped: int
    log_evidence: float
    threshold: float
    target_run_length: int
    verified_run_length: float
    alarms: int
    alarmed: bool
    accuracy: AccuracyStatus | None = None
    state: str = "ok"
    evidence_ratios: dict[str, float] = field(default_factory=dict)
    effect_size: float = 0.0
    burst_evidence_ratio: float = 0.0
    reference_rows: int = 0
    reference_timestamp_seconds: float = 0.0
    smallest_visible_share: float = 1.0
    state_bytes: int = 0


class Observer(Protocol):
    """Watches the traffic of one bundle; called once per answered text, in order."""

    def observe(self, observation: Observation) -> Verdict | None:
        """Take one observation; a verdict is returned once, at the alarm."""
        ...

    def label(self, labelled: Labelled) -> Verdict | None:
        """Take a label, whenever it comes; a verdict is returned once, where labels show that the
        model is wrong more often than it was. On the thread of observe()."""
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

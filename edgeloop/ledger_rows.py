"""What the ledger's tables hold, as values; they are used as `edgeloop.ledger.LabelledRow` etc."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FEEDBACK = "feedback"


@dataclass(frozen=True)
class LabelledRow:
    """A row that a person labelled. `source` is where the label came from: FEEDBACK, or the file
    that a uniform sample was drawn from. Two rows are equal whatever their source.

    `inclusion_probability`, `rule`: of a row that a server captured, how it was drawn."""

    id: str
    text: str
    label: str
    source: str = field(default="", compare=False)
    inclusion_probability: float | None = field(default=None, compare=False)
    rule: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class StoredLabel:
    """A label under the number that the ledger gave it. `corrects`: the row had another before."""

    sequence: int
    row: LabelledRow
    corrects: bool


@dataclass(frozen=True)
class Deployment:
    """A bundle that was made the one to serve."""

    sequence: int
    model: str
    bundle_digest: str
    path: Path
    at: str
    reason: str


@dataclass(frozen=True)
class RunEntry:
    """A run as the ledger tells it."""

    id: str
    model: str
    trigger: str
    path: str
    dataset_digest: str
    started_at: str
    finished_at: str | None
    result: str | None
    document: dict[str, Any]


@dataclass(frozen=True)
class RunResult:
    """How a run ended: built | infeasible | forgotten | promoted | rejected, with its figures."""

    id: str
    result: str
    document: dict[str, Any]


@dataclass(frozen=True)
class Lease:
    """The right to retrain a model until it expires; a later holder has a higher fence."""

    model: str
    holder: str
    fence: int

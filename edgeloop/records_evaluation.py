"""What was measured of a fine-tuned model on the test rows, and of the baselines beside it. No
record here holds a text: those of the worst errors lie in a local file of the run folder.
"""

from edgeloop.records import Interval, Record, StageRecord


class ClassFigures(Record):
    """One class or entity type; `support` rows or spans carry it in truth."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


class Confusion(Record):
    """`rows` rows of class `truth` were answered `answer`; the two differ."""

    truth: str
    answer: str
    rows: int


class ReliabilityPoint(Record):
    """The decisions of one bin: how sure the model was on average, and how often it was right."""

    confidence: float
    accuracy: float
    decisions: int


class Calibration(Record):
    """Expected calibration error over bins of equal mass, and the bins."""

    ece: float
    points: tuple[ReliabilityPoint, ...]


class Slice(Record):
    """The rows with one value of one column. `right` has Wilson's interval; a slice with too few
    rows is shown and never judged. `differs`: it is below the whole after Holm's correction."""

    column: str
    value: str
    rows: int
    right: Interval
    too_few: bool
    differs: bool

    @property
    def name(self) -> str:
        """ "column: value"."""
        return f"{self.column}: {self.value}"


class Evaluation(StageRecord):
    """Test rows answered by the merged model. `figures` by name, with bootstrap intervals at
    `confidence`; `headline` names the one that the task is judged by. `right_ratio` is the share of
    rows that are right as a whole, which the slices are compared with."""

    task: str
    dataset_digest: str
    merged_digest: str
    rows: int
    headline: str
    figures: dict[str, Interval]
    confidence: float
    resamples: int
    right_ratio: float
    brier: float | None
    calibration: Calibration | None
    classes: tuple[ClassFigures, ...]
    confusion: tuple[Confusion, ...]
    slices: tuple[Slice, ...]
    worst_slice: str | None


class Baseline(Record):
    """One way to do the task. `loss` is the fine-tuned model's headline figure less this one's, on
    the same rows (None for the fine-tuned model itself); `drop_upper_bound_ratio` bounds how far it
    is below the best of all. `chosen_settings` were chosen on the validation rows."""

    name: str
    figure: Interval
    loss: Interval | None
    drop_upper_bound_ratio: float
    chosen_settings: dict[str, float]
    train_seconds: float
    latency_p50_ms: float
    size_bytes: int


class Baselines(StageRecord):
    """Cheapest first. `ship` is the first of them whose figure is not more than `max_drop_ratio`
    below the best one, at `confidence` over all comparisons together."""

    task: str
    dataset_digest: str
    merged_digest: str
    train_rows: int
    test_rows: int
    headline: str
    interval_confidence: float
    max_drop_ratio: float
    confidence: float
    results: tuple[Baseline, ...]
    best: str
    ship: str
    reason: str

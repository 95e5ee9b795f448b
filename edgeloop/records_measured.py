"""What is measured of a compressed candidate beside its accuracy and latency (edgeloop.records)."""

from edgeloop.record import Record


class Layout(Record):
    """`workers` threads that answer one text at a time, with `intra_op_threads` threads each."""

    workers: int
    intra_op_threads: int


class Throughput(Record):
    """What one layout answers. `joules_per_text` is that of the whole processor package, None with
    the reason where it cannot be measured."""

    layout: Layout
    texts_per_second: float
    joules_per_text: float | None
    energy_reason: str


class ClassQuality(Record):
    """One class or entity type, which `support` rows or spans carry in truth: recall and F1 of the
    candidate and of the merged model, on the same rows."""

    name: str
    support: int
    recall: float
    f1: float
    merged_recall: float
    merged_f1: float

    @property
    def recall_drop(self) -> float:
        """Below 0 where the candidate finds more."""
        return self.merged_recall - self.recall

    @property
    def f1_drop(self) -> float:
        """Below 0 where the candidate is better."""
        return self.merged_f1 - self.f1


class SliceQuality(Record):
    """The rows with one value of one column (edgeloop.slices): the share that each model answers
    rightly."""

    name: str
    rows: int
    accuracy: float
    merged_accuracy: float

    @property
    def drop(self) -> float:
        """Below 0 where the candidate is right more often."""
        return self.merged_accuracy - self.accuracy


class Quality(Record):
    """A candidate beside the merged model on the same rows.

    `ece` and `merged_ece`: expected calibration error over 15 bins of equal mass (sources in
    edgeloop.calibration), None where no decision was made. `agreement_ratio`: rows to which both
    give exactly the same answer, right or wrong; None for a task without answers (text-embedding).
    `flip_ratio`: rows that one of the two answers rightly and the other wrongly (Dutta et al.
    2024, "Accuracy is Not All You Need"); equal accuracies can hide many. `slices`: those with
    enough rows to be judged.
    """

    rows: int
    ece: float | None
    merged_ece: float | None
    agreement_ratio: float | None
    flip_ratio: float
    classes: tuple[ClassQuality, ...]
    slices: tuple[SliceQuality, ...]

    @property
    def worst_slice(self) -> SliceQuality | None:
        """The slice that falls most, among equals the one with more rows; None without."""
        return max(self.slices, key=lambda s: (s.drop, s.rows), default=None)

    @property
    def worst_recall(self) -> ClassQuality | None:
        """The class whose recall falls most, among equals the one with more rows; None without."""
        return max(self._present, key=lambda c: (c.recall_drop, c.support), default=None)

    @property
    def worst_f1(self) -> ClassQuality | None:
        """The class whose F1 falls most, among equals the one with more rows; None without."""
        return max(self._present, key=lambda c: (c.f1_drop, c.support), default=None)

    @property
    def _present(self) -> tuple[ClassQuality, ...]:
        """A class without a row has no recall to lose."""
        return tuple(c for c in self.classes if c.support > 0)

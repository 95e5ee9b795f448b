"""What is found out about a candidate's file besides its figures: the kernels that it really runs
on, and whether its answers depend on anything but the text.
"""

from edgeloop.records import Machine, Measurement, PairedDrop, Parity, Record, StageRecord
from edgeloop.records_measured import Quality, Throughput


class KernelLint(Record):
    """Matrix products of the graph as onnxruntime runs it. integer_matmuls: in integers.
    float_matmuls: with weights that are float. float_products: of two activations, as in attention,
    which no candidate quantizes. qdq_islands: float operators of any kind between DequantizeLinear
    and QuantizeLinear, which run slower than they did before."""

    integer_matmuls: int
    float_matmuls: int
    float_products: int
    qdq_islands: int
    warnings: tuple[str, ...]


class Change(Record):
    """max_change: the largest difference of any logit, or of the embedding where there are no
    logits. flips: rows with another answer."""

    max_change: float
    flips: int


class Invariance(Record):
    """Answers to the same `rows` texts, each alone and by one thread, against those in a batch with
    others, padded longer, and by more threads."""

    rows: int
    batch: Change
    padding: Change
    threads: Change


class Candidate(StageRecord):
    """One compressed model with everything that was measured of it. `screening` is the drop on the
    choosing rows, which decides who is a finalist; `accuracy` that on the judging rows, at a
    confidence that is corrected for the number of finalists: a claim where `finalist` is true, a
    description elsewhere. `excess_ratio`: how far from the budget, 0 where `misses` is empty.
    `source`: the fp32 model that it was made from, with the exporter and the proof of its export
    (None where nothing is exported). The last three are taken of finalists alone, lint and
    invariance of those that are one encoder."""

    kind: str
    source: str
    exporter: str | None
    merged_digest: str
    parity: Parity | None
    measurement: Measurement
    screening: PairedDrop
    accuracy: PairedDrop
    test_accuracy: float
    finalist: bool
    misses: tuple[str, ...]
    excess_ratio: float
    quality: Quality
    throughput: Throughput | None
    lint: KernelLint | None
    invariance: Invariance | None


class Certificate(StageRecord):
    """The outcome of a budget: the chosen candidate, or None with what each one misses.
    `finalist_confidence` is what each of the finalists was tested at, so that all claims together
    hold at `confidence`; `left_out`: who was not measured to the end, and why. `labels`: in the
    order of the models' outputs."""

    labels: tuple[str, ...]
    budget: dict[str, float]
    confidence: float
    prefer: str
    chosen: str | None
    finalists: tuple[str, ...]
    finalist_confidence: float
    choosing_rows: int
    candidates: tuple[Candidate, ...]
    left_out: dict[str, str]
    machine: Machine

    def nearest(self) -> tuple[Candidate, ...]:
        """The candidates from the nearest to the budget on."""
        return tuple(sorted(self.candidates, key=lambda found: found.excess_ratio))

"""The documents that stages hand on. Each is one JSON file, written last, so that it exists only
when its stage is complete; unknown or missing fields are errors when it is read back.
"""

from typing import Literal

from edgeloop.kinds import Engine
from edgeloop.record import Record as Record

SPLITS = ("train", "validation", "reference", "test")
LedgerAction = Literal["wait", "label", "retrain", "roll back"]


class FileEntry(Record):
    """A file by its path relative to the record's folder."""

    path: str
    bytes: int
    sha256: str


class StageRecord(Record):
    """What every stage writes: the digest of its inputs tells whether it must run again."""

    inputs_digest: str
    files: tuple[FileEntry, ...]


class Dataset(StageRecord):
    """Rows as jsonl per split (see edgeloop.rows), one file per name in SPLITS."""

    digest: str
    labels: tuple[str, ...]
    rows: dict[str, int]
    sources: tuple[FileEntry, ...]
    reference_is_test: bool
    warnings: tuple[str, ...]


class Epoch(Record):
    """One pass over the training rows."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_metric: float
    train_seconds: float
    seconds: float


class Trial(Record):
    """One setting that a search tried. `figure`: the task's, on the rows set apart, of the best
    epoch. pruned: stopped for being worse than the median; failed: could not be trained;
    killed: ended with its process, and done again by a later trial."""

    number: int
    parameters: dict[str, bool | int | float | str]
    state: Literal["complete", "pruned", "failed", "killed"]
    figure: float | None
    epochs: int
    seconds: float
    problem: str


class SearchRecord(StageRecord):
    """The trials of a hyperparameter search; `best` is the number of the one whose parameters the
    adapter is trained with."""

    metric: str
    rows: int
    holdout_rows: int
    trials: tuple[Trial, ...]
    best: int
    parameters: dict[str, bool | int | float | str]


class Adapter(StageRecord):
    """A trained adapter in PEFT's own format."""

    method: str
    metric: str
    base: str
    base_digest: str
    dataset_digest: str
    labels: tuple[str, ...]
    trainable_parameters: int
    total_parameters: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    seed: int
    seconds: float


class Probe(Record):
    """A part of a training, measured (finetune.probe): what an estimate is made of."""

    method: str
    train_rows: int
    validation_rows: int
    start_seconds: float
    train_row_seconds: float
    validation_row_seconds: float
    checkpoint_seconds: float
    save_seconds: float
    peak_bytes: int
    trainable_parameters: int
    total_parameters: int
    dataset_bytes: int
    adapter_bytes: int
    checkpoint_bytes: int
    tokenizer_bytes: int
    is_mergeable: bool


class MethodEstimate(Record):
    """What a run with a method will need. Memory and time are those of fine-tuning, until the
    adapter is saved; disk is the whole run folder's. `problem`: why there are no figures."""

    method: str
    memory_bytes: int = 0
    seconds: float = 0.0
    disk_bytes: int = 0
    checkpoint_bytes: int = 0
    trainable_parameters: int = 0
    trainable_ratio: float = 0.0
    problem: str = ""


class SearchEstimate(Record):
    """What a search adds to a run, at most: pruning shortens it."""

    trials: int | None
    trial_seconds: float
    seconds: float
    memory_bytes: int


class Estimate(Record):
    """The recipe's own method and those that it is compared with."""

    own: str
    epochs: int
    methods: tuple[MethodEstimate, ...]
    search: SearchEstimate | None


class Parity(Record):
    """Two models on the same rows."""

    rows: int
    max_abs_difference: float
    argmax_agreement_ratio: float
    tolerance: float


class MergeGap(Record):
    """A merge into one of the bases that the adapter may be merged into, against the unmerged model
    on the validation rows: how much higher its loss is, how much lower the task's figure."""

    base: str
    loss_rise: float
    metric_drop: float


class MergedModel(StageRecord):
    """A plain Hugging Face folder, and the proof that it is base plus adapter, in words too.
    `qlora_gap`: both merges of a qlora adapter, the one that was kept first."""

    base_digest: str
    adapter_digest: str
    dataset_digest: str
    labels: tuple[str, ...]
    adapter_tensors: int
    merged_weights: int
    copied_tensors: int
    parity: Parity
    proof: str
    qlora_gap: tuple[MergeGap, ...]


class Interval(Record):
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


class Machine(Record):
    """Where a figure was taken."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    platform: str


class Measurement(Record):
    """One candidate in a process of its own: single thread, single text, real texts."""

    rows: int
    repeats: int
    latency_p50_ms: Interval
    latency_p95_ms: Interval
    size_bytes: int
    rss_bytes: int
    cold_start_seconds: float


class PairedDrop(Record):
    """Accuracy of a candidate against a reference model on the same rows: the share that is
    answered rightly by the task's rule (edgeloop.tasks).

    `lost` rows only the reference answers rightly, `gained` rows only the candidate;
    drop_ratio = (lost - gained) / rows; upper_bound_ratio holds at `confidence`.
    """

    rows: int
    reference_accuracy: float
    candidate_accuracy: float
    lost: int
    gained: int
    drop_ratio: float
    upper_bound_ratio: float
    confidence: float


class Reference(StageRecord):
    """What drift is measured against; the arrays are in reference.npz.

    `advisory`: not armed, yet alarms are raised, without a promise. `dependence`: "none", or
    "blocks-b" where rows come in bursts of `burst_rows` and b rows were simulated at a time; each
    part of the detector then counts as many rows for one as `design_effects` says.
    `neighbour_excess`: how much oftener near rows are alike than far ones, with a margin.
    """

    rows: int
    armed: bool
    advisory: bool = False
    dependence: str = "none"
    burst_rows: float = 1.0
    design_effects: tuple[float, ...] = ()
    neighbour_excess: float = 0.0
    target_run_length: int
    verified_run_length: float
    threshold: float
    smallest_visible_share: float
    reason: str


class Manifest(Record):
    """manifest.json of a bundle. An answer whose score is below `abstain_below` is marked as out of
    scope (None: no answer is); of ordinary requests that happens to at most `max_abstain_ratio`, by
    calibration on `abstain_rows` rows. `text_pair`: the model was trained with second texts."""

    schema_version: Literal[1] = 1
    name: str
    task: str
    engine: Engine
    candidate: str
    labels: tuple[str, ...]
    max_tokens: int
    deadline_ms: int
    created_at: str
    files: tuple[FileEntry, ...]
    parents: dict[str, str]
    measurement: Measurement
    accuracy: PairedDrop
    test_accuracy: float
    budget: dict[str, float]
    machine: Machine
    reference: Reference
    tool_versions: dict[str, str]
    text_pair: bool = False
    abstain_below: float | None = None
    abstain_rows: int = 0
    max_abstain_ratio: float = 0.0


class Movement(Record):
    """One word or class and its share of the rows in the reference and in recent traffic."""

    name: str
    reference_ratio: float
    recent_ratio: float


class FeatureMovement(Record):
    """A feature's median in the reference and in recent traffic, Kolmogorov's distance between the
    two, and the evidence of its own detector over the threshold."""

    name: str
    reference_median: float
    recent_median: float
    distance: float
    evidence_ratio: float


class Verdict(Record):
    """A drift alarm: when, on what evidence, and what moved.

    `detector`: the one whose evidence is highest over its threshold, `log_evidence` and `threshold`
    are its; `detectors`: all that had passed theirs. `advisory`: raised without a promise, as the
    reference is not armed or traffic comes in longer bursts than the reference did. `effect_size`:
    the distance between recent rows and the reference, in standard deviations. `onset_observation`:
    where the drift is estimated to have begun. `ngrams`: salted hashes (monitor.words).
    `reference_rows`: ids of the reference rows that the new ones are most like.
    """

    model: str
    bundle_digest: str
    at: str
    observation: int
    detector: str
    log_evidence: float
    threshold: float
    parts: dict[str, float]
    target_run_length: int
    advisory: bool = False
    effect_size: float = 0.0
    words: tuple[Movement, ...]
    classes: tuple[Movement, ...]
    detectors: tuple[str, ...] = ()
    evidence_ratios: dict[str, float] = {}
    onset_observation: int | None = None
    features: tuple[FeatureMovement, ...] = ()
    ngrams: tuple[Movement, ...] = ()
    reference_rows: tuple[str, ...] = ()


class Decision(Record):
    """wait | label | retrain | roll back, with the reasons and the numbers behind them."""

    model: str
    at: str
    action: LedgerAction
    reasons: tuple[str, ...]
    figures: dict[str, float]


class Gate(Record):
    """Champion against challenger on frozen golden rows and on fresh labelled rows."""

    promoted: bool
    reasons: tuple[str, ...]
    golden: PairedDrop
    fresh: PairedDrop
    fresh_p_value: float

"""The recipe's `compress`: the budget, the candidates, and how students are taught."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgeloop.section import Section


class Budget(Section):
    """What the shipped model must keep to; `null` leaves a figure out of the contract.
    `max_class_drop`: how much of its recall any class may lose, `max_slice_drop`: how much of its
    accuracy any slice (data.columns.slices, lengths), as measured on the rows that they have;
    `max_flip_ratio`: of how many texts the answer may change with what else is in a batch, with
    padding or with more threads."""

    latency_p95_ms: PositiveFloat | None = None
    size_mb: PositiveFloat | None = None
    rss_mb: PositiveFloat | None = None
    max_accuracy_drop: float = Field(0.02, gt=0.0, le=1.0)
    max_class_drop: float | None = Field(None, gt=0.0, le=1.0)
    max_slice_drop: float | None = Field(None, gt=0.0, le=1.0)
    max_flip_ratio: float | None = Field(None, ge=0.0, le=1.0)
    confidence: float = Field(0.95, gt=0.5, lt=1.0)


CandidateKind = Literal[
    "onnx-fp32",
    "onnx-int8",
    "onnx-int8-static-minmax",
    "onnx-int8-static-percentile",
    "onnx-int8-static-entropy",
    "onnx-int8-mixed",
    "onnx-fp16",
    "onnx-w8",
    "onnx-w4",
    "trimmed-int8",
    "trimmed-w4",
    "student-half",
    "student-half-int8",
    "student-third",
    "student-third-int8",
    "student-third-trimmed-int8",
    "student-narrow",
    "student-narrow-int8",
    "pruned",
    "pruned-int8",
    "static-embedding",
    "static-embedding-int8",
    "linear-ngrams",
    "cascade-linear-int8",
    "cascade-linear-trimmed-int8",
    "cascade-static-int8",
]


class Distill(Section):
    """How students are taught: with fewer layers (`num_train_epochs`), a smaller hidden size
    (`narrow_`), fewer heads and a smaller FFN (`pruned_`), or no encoder at all (`static_`).

    `temperature` divides the logits of teacher and student; `label_weight` is the share of the
    labels in the loss on a labelled row, the rest is the teacher's; `hidden_weight` that of the
    hidden states beside it. `narrow_ratio` and `pruned_ratio` of the teacher's width are kept.
    """

    num_train_epochs: PositiveInt = 6
    narrow_epochs: PositiveInt = 8
    pruned_epochs: PositiveInt = 3
    static_epochs: PositiveInt = 10
    learning_rate: PositiveFloat = 4.0e-4
    static_learning_rate: PositiveFloat = 1.0e-2
    warmup_ratio: float = Field(0.1, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    max_grad_norm: PositiveFloat = 1.0
    batch_rows: PositiveInt = 32
    static_batch_rows: PositiveInt = 128
    seed: int = Field(0, ge=0)
    temperature: PositiveFloat = 2.0
    label_weight: float = Field(0.3, ge=0.0, le=1.0)
    hidden_weight: float = Field(1.0, ge=0.0)
    narrow_ratio: float = Field(0.5, gt=0.0, lt=1.0)
    pruned_ratio: float = Field(0.5, gt=0.0, lt=1.0)
    static_width: PositiveInt = 256


class Compress(Section):
    """Which candidates are made, and the budget that the chosen one must meet. Of those that do,
    the preferred one ships: the smallest, the fastest or the most accurate. At most `finalists` of
    them are certified; the fewer, the closer to its measured drop a certificate can come."""

    candidates: Literal["auto"] | tuple[CandidateKind, ...] = "auto"
    budget: Budget = Budget()
    prefer: Literal["size", "latency", "accuracy"] = "size"
    finalists: int = Field(3, ge=1, le=20)
    distill: Distill = Distill()

    @model_validator(mode="after")
    def _some_candidate(self) -> Self:
        if self.candidates == ():
            raise ValueError("candidates is empty; write auto or name at least one")
        if len(set(self.candidates)) < len(self.candidates) and self.candidates != "auto":
            raise ValueError("candidates names one of them twice")
        return self

"""The recipe's `finetune`: the method, its settings, training, search and retention."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from edgeloop.section import Section

Method = Literal["lora", "qlora", "full", "adapter", "ia3", "head", "prefix", "prompt"]
Targets = Literal["all-linear"] | Annotated[tuple[str, ...], Field(min_length=1)]

# Measured in 3 epochs on 2,000 rows of banking77, MiniLM-L6. Two rates were tried for full (1e-4
# stopped at 0.62, 5e-4 at 0.82 and still rising), adapter, prefix and head; one for the others.
LEARNING_RATES: dict[str, float] = {
    "lora": 1.0e-3,
    "qlora": 1.0e-3,
    "full": 5.0e-4,
    "adapter": 3.0e-3,
    "ia3": 1.0e-2,
    "head": 1.0e-2,
    "prefix": 1.0e-2,
    "prompt": 1.0e-2,
}


class Lora(Section):
    """PEFT's names (https://huggingface.co/docs/peft/package_reference/lora)."""

    r: PositiveInt = 16
    lora_alpha: PositiveInt = 32
    lora_dropout: float = Field(0.05, ge=0.0, lt=1.0)
    target_modules: Targets = "all-linear"
    use_dora: bool = False
    use_rslora: bool = False


class Qlora(Section):
    """How the frozen base is held while LoRA trains on it; transformers' BitsAndBytesConfig."""

    bnb_4bit_quant_type: Literal["nf4", "fp4"] = "nf4"
    bnb_4bit_use_double_quant: bool = True


class Bottleneck(Section):
    """A bottleneck beside every feed-forward block: its width is that of the hidden state divided
    by the factor (AdapterHub's name)."""

    reduction_factor: PositiveInt = 8


class VirtualTokens(Section):
    """PEFT's name, for prefix and prompt."""

    num_virtual_tokens: int = Field(20, ge=1, le=512)


class Training(Section):
    """Hugging Face TrainingArguments' names. `learning_rate` null: the method's own."""

    num_train_epochs: PositiveInt = 6
    learning_rate: PositiveFloat | None = None
    per_device_train_batch_size: PositiveInt = 16
    warmup_ratio: float = Field(0.1, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.0, ge=0.0)
    max_grad_norm: PositiveFloat = 1.0
    bf16: bool | Literal["auto"] = "auto"
    seed: int = Field(0, ge=0, lt=2**32)
    save_steps: PositiveInt = 500
    early_stopping_patience: PositiveInt = 2


class Range(Section):
    """Optuna's suggest_float: between low and high, on a log scale where asked."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0.0:
            raise ValueError(f"a log scale needs low above 0, it is {self.low:g}")
        return self


Choices = Annotated[tuple[int | float | bool | str, ...], Field(min_length=2)]


class Search(Section):
    """Hyperparameter search (Optuna: TPE, median pruning). It ends at whichever budget is reached
    first. `holdout` of the training rows are set apart to judge trials on, so that neither the
    validation rows nor the test rows are touched."""

    n_trials: PositiveInt | None = 20
    timeout_minutes: PositiveFloat | None = None
    n_jobs: PositiveInt = 1
    holdout: float = Field(0.2, gt=0.0, lt=0.9)
    space: dict[str, Choices | Range] = Field(
        default={
            "training.learning_rate": Range(low=2.0e-4, high=4.0e-3, log=True),
            "training.per_device_train_batch_size": (16, 32),
        },
        min_length=1,
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.n_trials is None and self.timeout_minutes is None:
            raise ValueError("set n_trials or timeout_minutes; a search needs an end")
        return self


class Retention(Section):
    """What the model knew before must not be forgotten: the previous deployment's golden rows and
    the rows of `files` (columns as in `data`) are answered before and after.

    The run fails its gate where accuracy on them falls by more than `max_drop`
    (finetune.retention.verdict). `replay_ratio` of the training rows are rows that the previous
    model was trained on, or of `files`, half of which are then not measured; `distillation_weight`
    of the loss is learned from the previous model's probabilities.
    """

    files: tuple[Path, ...] = ()
    max_drop: float = Field(0.02, gt=0.0, le=1.0)
    replay_ratio: float = Field(0.0, ge=0.0, lt=1.0)
    distillation_weight: float = Field(0.0, ge=0.0, lt=1.0)


class Finetune(Section):
    """How the base model is adapted."""

    method: Method = "lora"
    lora: Lora = Lora()
    qlora: Qlora = Qlora()
    adapter: Bottleneck = Bottleneck()
    prefix: VirtualTokens = VirtualTokens()
    prompt: VirtualTokens = VirtualTokens()
    training: Training = Training()
    search: Search | None = None
    retention: Retention = Retention()

    @property
    def learning_rate(self) -> float:
        """The recipe's, or the method's own, where the recipe leaves it to the method."""
        chosen = self.training.learning_rate
        return LEARNING_RATES[self.method] if chosen is None else chosen

    def unused_sections(self) -> tuple[str, ...]:
        """Sections that were written for a method that is not the one chosen."""
        read = {"lora": ("lora", "qlora")}
        written = self.model_fields_set & {"lora", "qlora", "adapter", "prefix", "prompt"}
        return tuple(sorted(name for name in written if self.method not in read.get(name, (name,))))

    def remarks(self) -> tuple[str, ...]:
        """One line for people per section that nothing reads."""
        return tuple(
            f"finetune.{name} is set, but finetune.method {self.method} does not read it; remove "
            "it, or choose the method that does"
            for name in self.unused_sections()
        )

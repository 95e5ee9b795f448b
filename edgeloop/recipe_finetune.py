"""The recipe's `finetune`: the method, its settings, training, search and retention."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from edgeloop.recipe_search import (
    Range,
    Search,
    SpaceError,
    Value,
    corners,
    first_message,
    is_whole,
    unknown,
    with_values,
)
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


class Retention(Section):
    """What the model knew before must not be forgotten: the previous deployment's golden rows and
    the rows of `files` (columns as in `data`) are answered before and after.

    The run fails its gate where accuracy on them falls by more than `max_drop`
    (finetune.retention.verdict). `replay_ratio` of the training rows are rows that the previous
    model was trained on, or of `files`, half of which are then not measured; `distillation_weight`
    of the loss is learned from the previous model's probabilities.
    """

    files: tuple[Path, ...] = ()
    max_drop: float = Field(0.05, gt=0.0, le=1.0)
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

    @model_validator(mode="after")
    def _searchable(self) -> Self:
        if self.search is not None:
            found = ((key, self._problem(key, space)) for key, space in self.search.space.items())
            problems = {key: why for key, why in found if why is not None}
            if problems:
                raise SpaceError(problems)
        return self

    def _problem(self, key: str, space: tuple[Value, ...] | Range) -> str | None:
        """Why this part of the space cannot be searched; every corner goes through the recipe."""
        nameless = unknown(Finetune, key)
        if nameless is not None:
            return nameless
        section = key.partition(".")[0]
        methods = self.methods()
        if not any(_reads(method, section) for method in methods):
            return f"method {' or '.join(methods)} does not read it"
        try:
            for value in corners(is_whole(Finetune, key), space):
                self.found({key: value})
        except ValidationError as problem:
            return first_message(problem)
        except ValueError as problem:
            return str(problem)
        return None

    def methods(self) -> tuple[str, ...]:
        """The methods that a training may use: the recipe's, or those that are searched over."""
        searched = self.search.space.get("method") if self.search is not None else None
        return tuple(map(str, searched)) if isinstance(searched, tuple) else (self.method,)

    def found(self, values: Mapping[str, Value]) -> "Finetune":
        """These settings with the values that a search found (dotted names), and no search.

        Raises pydantic's ValidationError where the recipe does not take them.
        """
        return Finetune.model_validate_json(json.dumps(with_values(self, values)))

    def unused_sections(self) -> tuple[str, ...]:
        """Sections that were written for a method that is not the one chosen."""
        written = self.model_fields_set & METHOD_SECTIONS
        return tuple(sorted(name for name in written if not _reads(self.method, name)))

    def remarks(self) -> tuple[str, ...]:
        """One line for people per section that nothing reads."""
        return tuple(
            f"finetune.{name} is set, but finetune.method {self.method} does not read it; remove "
            "it, or choose the method that does"
            for name in self.unused_sections()
        )


METHOD_SECTIONS = {"lora", "qlora", "adapter", "prefix", "prompt"}


def _reads(method: str, section: str) -> bool:
    """False for the section of another method."""
    readers = {"lora": ("lora", "qlora")}
    return section not in METHOD_SECTIONS or method in readers.get(section, (section,))

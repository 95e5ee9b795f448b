"""The classifier that is trained: a base encoder with LoRA on its linear layers (PEFT), the mean of
its last hidden state scaled to length 1, and a linear head.

Mean pooling is what sentence encoders were trained with, and it needs no pooler of its own: on the
example's rows a head on the first token's pooler stops at 0.88 where this one passes 0.90.
"""

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from optimum.utils import NormalizedConfigManager
from peft import LoraConfig, TaskType, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from edgeloop.errors import TrainingError
from edgeloop.recipe import Lora

logger = logging.getLogger(__name__)

# An encoder is what was, or could have been, pretrained by filling in masked words.
ENCODERS = frozenset(MODEL_FOR_MASKED_LM_MAPPING_NAMES) & frozenset(
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
)
POOLER = "pooler"


class Classifier(torch.nn.Module):  # type: ignore[misc]
    """input_ids and attention_mask (batch, seq) -> logits (batch, classes)."""

    def __init__(self, encoder: torch.nn.Module, hidden: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(hidden, classes)
        # A unit vector's coordinates are of the order 1/sqrt(hidden): scaled to the order 1, the
        # head learns at the same rate as the adapters. `folded_head` takes the factor in again.
        self.scale = math.sqrt(hidden)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """See the class."""
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        hidden = output.last_hidden_state  # (batch, seq, hidden)
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        logits: torch.Tensor = self.head(torch.nn.functional.normalize(mean, dim=-1) * self.scale)
        return logits

    def folded_head(self) -> dict[str, torch.Tensor]:
        """The head on the unit vector itself: weight (classes, hidden), bias (classes,)."""
        weight = self.head.weight.detach() * self.scale
        return {"weight": weight, "bias": self.head.bias.detach().clone()}

    def set_folded_head(self, head: Mapping[str, torch.Tensor]) -> None:
        """Put such a head back."""
        with torch.no_grad():
            self.head.weight.copy_(head["weight"] / self.scale)
            self.head.bias.copy_(head["bias"])


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading bars and no advice about new heads: the stages say what matters themselves.
    PEFT 0.21 still asks transformers 5 for a name that is on its way out."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def load_config(folder: Path, labels: Sequence[str]) -> Any:
    """The base's config with the labels in it.

    Raises TrainingError where the architecture is not an encoder that can classify.
    """
    try:
        config = AutoConfig.from_pretrained(
            folder,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
            problem_type="single_label_classification",
            local_files_only=True,
        )
    except (ValueError, OSError, KeyError) as problem:
        raise TrainingError(f"{folder}/config.json: {problem}") from problem
    if config.model_type not in ENCODERS or config.is_encoder_decoder:
        raise TrainingError(
            f"{folder}: architecture {config.model_type!r} is not an encoder that can be "
            f"fine-tuned for text classification; take one of {', '.join(sorted(ENCODERS))}"
        )
    return config


def load_encoder(folder: Path, config: Any, dtype: torch.dtype | str) -> PreTrainedModel:
    """The base without its pooler, which nothing here reads.

    Raises TrainingError where the weights do not load or do not belong to the config.
    """
    try:
        encoder, info = AutoModel.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as problem:
        raise TrainingError(f"{folder}: the weights do not load ({problem})") from problem
    _check_encoder(folder, encoder, set(info["missing_keys"]), set(info["unexpected_keys"]))
    if getattr(encoder, POOLER, None) is not None:
        encoder.pooler = None
    return encoder


def load_classifier(folder: Path, labels: Sequence[str], dtype: torch.dtype | str) -> Classifier:
    """The base with a new head for the labels. Raises TrainingError as `load_encoder` does."""
    config = load_config(folder, labels)
    return Classifier(load_encoder(folder, config, dtype), hidden_size(config), len(labels))


def hidden_size(config: Any) -> int:
    """The width of the last hidden state, by whatever name the architecture has for it.

    Raises TrainingError where optimum does not know the architecture.
    """
    try:
        normalized = NormalizedConfigManager.get_normalized_config_class(config.model_type)
    except KeyError:
        raise TrainingError(
            f"architecture {config.model_type!r} has no normalized config in optimum; take a base "
            "of another architecture (bert, roberta, distilbert, mpnet, modernbert ...)"
        ) from None
    return int(normalized(config).hidden_size)


def _check_encoder(folder: Path, encoder: PreTrainedModel, new: set[str], unused: set[str]) -> None:
    """Every tensor of the encoder comes from the base, and every one of the base is used. Only the
    heads of other tasks, the pooler and position buffers may differ."""
    prefix = f"{encoder.base_model_prefix}."
    parts = {name.split(".")[0] for name, _ in encoder.named_parameters()} - {POOLER}
    lost = {n.removeprefix(prefix) for n in new}
    left = {n.removeprefix(prefix) for n in unused if not n.endswith("position_ids")}
    for names, what in ((lost, "lacks"), (left, "holds, and its config.json has no place for,")):
        inside = sorted(name for name in names if name.split(".")[0] in parts)
        if inside:
            raise TrainingError(
                f"{folder}: the base {what} {len(inside)} tensors of the encoder, among them "
                f"{inside[0]}; the folder is damaged or its config.json is another model's"
            )
    if left:
        logger.info("base=%s left_out=%s", folder, ",".join(sorted(left)))


def load_tokenizer(folder: Path, config: Any, max_tokens: int) -> PreTrainedTokenizerBase:
    """The base's fast tokenizer.

    Raises TrainingError where there is none, or where the base reads fewer tokens than asked for.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as problem:
        raise TrainingError(f"{folder}: the tokenizer does not load ({problem})") from problem
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise TrainingError(
            f"{folder}: needs a tokenizer.json with a padding token; without it the model cannot "
            "be served outside Python"
        )
    longest = min(
        tokenizer.model_max_length, getattr(config, "max_position_embeddings", max_tokens)
    )
    if max_tokens > longest:
        raise TrainingError(
            f"serve.max_tokens is {max_tokens}, the base reads at most {longest}; "
            f"set serve.max_tokens to {longest} or less"
        )
    return tokenizer


def lora_targets(encoder: torch.nn.Module, lora: Lora, architecture: str) -> tuple[str, ...]:
    """Full names of the encoder's linear layers that get LoRA.

    Raises TrainingError where a name in the recipe matches none.
    """
    modules = encoder.named_modules()
    linear = [name for name, module in modules if isinstance(module, torch.nn.Linear)]
    if lora.target_modules == "all-linear":
        return tuple(linear)
    unmatched = [t for t in lora.target_modules if not any(_named(n, t) for n in linear)]
    if unmatched:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        raise TrainingError(
            f"finetune.lora.target_modules: {', '.join(unmatched)} names no linear layer of "
            f"{architecture}; it has {', '.join(ends)}"
        )
    return tuple(name for name in linear if any(_named(name, t) for t in lora.target_modules))


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def attach_lora(classifier: Classifier, lora: Lora, base_name: str) -> LoraConfig:
    """Put LoRA on the classifier's encoder, in place; only the adapters and the head are trained.

    Returns the config as PEFT saves it.
    """
    targets = lora_targets(classifier.encoder, lora, classifier.encoder.config.model_type)

    def config() -> LoraConfig:
        return LoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            target_modules=list(targets),
            use_dora=lora.use_dora,
            use_rslora=lora.use_rslora,
        )

    # PEFT shortens the names in the config that it is given, and warns where the base's name is not
    # the folder that it was loaded from.
    as_asked = config()
    as_asked.base_model_name_or_path = base_name
    classifier.encoder = get_peft_model(classifier.encoder, config())
    return as_asked

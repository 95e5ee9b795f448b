"""The classifier that is trained: a base encoder with its architecture's own classification head,
and LoRA on the linear layers of the encoder (PEFT).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
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


@dataclass(frozen=True)
class Classifier:
    """A base with a classification head; `new` names the parameters that the base did not have."""

    model: PreTrainedModel
    new: frozenset[str]


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No loading bars and no advice about new heads: the stages say what matters themselves."""
    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
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


def load_classifier(folder: Path, labels: Sequence[str], dtype: torch.dtype | str) -> Classifier:
    """The base with a head for the labels; parameters that it lacks are random (seed first).

    Raises TrainingError where the weights do not load or do not belong to the config.
    """
    config = load_config(folder, labels)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a head that was trained for other labels
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as problem:
        raise TrainingError(f"{folder}: the weights do not load ({problem})") from problem
    mismatched = {entry[0] for entry in info["mismatched_keys"]}
    new = frozenset(info["missing_keys"]) | mismatched
    _check_encoder(folder, model, new, frozenset(info["unexpected_keys"]))
    return Classifier(model, new)


def _check_encoder(
    folder: Path, model: PreTrainedModel, new: frozenset[str], unused: frozenset[str]
) -> None:
    """Every tensor of the encoder comes from the base, and every one of the base is used. Only the
    heads of other tasks, the pooler and position buffers may differ."""
    encoder = f"{model.base_model_prefix}."
    parts = {name.split(".")[0] for name, _ in model.base_model.named_parameters()} - {POOLER}
    lost = {n.removeprefix(encoder) for n in new if n.startswith(encoder)}
    left = {n.removeprefix(encoder) for n in unused if not n.endswith("position_ids")}
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


def trained_modules(classifier: Classifier) -> tuple[str, ...]:
    """The modules that are trained whole: every one outside the encoder that has parameters, and
    the pooler where the base had none. A new parameter that is not trained would stay random."""
    prefix = f"{classifier.model.base_model_prefix}."
    names = [name for name, _ in classifier.model.named_parameters()]
    heads = {name.split(".")[0] for name in names if not name.startswith(prefix)}
    if any(name.startswith(f"{prefix}{POOLER}.") for name in classifier.new):
        heads.add(f"{prefix}{POOLER}")
    return tuple(sorted(heads))


def lora_targets(classifier: Classifier, lora: Lora) -> tuple[str, ...]:
    """Full names of the encoder's linear layers that get LoRA.

    Raises TrainingError where a name in the recipe matches none.
    """
    kept_whole = tuple(f"{name}." for name in trained_modules(classifier))
    linear = [
        name
        for name, module in classifier.model.named_modules()
        if isinstance(module, torch.nn.Linear) and not f"{name}.".startswith(kept_whole)
    ]
    if lora.target_modules == "all-linear":
        return tuple(linear)
    unmatched = [t for t in lora.target_modules if not any(_named(n, t) for n in linear)]
    if unmatched:
        ends = sorted({name.rpartition(".")[2] for name in linear})
        raise TrainingError(
            f"finetune.lora.target_modules: {', '.join(unmatched)} names no linear layer of "
            f"{classifier.model.config.model_type}; it has {', '.join(ends)}"
        )
    return tuple(name for name in linear if any(_named(name, t) for t in lora.target_modules))


def _named(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def attach_lora(classifier: Classifier, lora: Lora, base_name: str) -> tuple[PeftModel, LoraConfig]:
    """LoRA around the classifier, and the config to save: what is trained, by full names."""

    def config() -> LoraConfig:
        return LoraConfig(
            task_type=TaskType.SEQ_CLS,
            base_model_name_or_path=base_name,
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            use_dora=lora.use_dora,
            use_rslora=lora.use_rslora,
            target_modules=list(lora_targets(classifier, lora)),
            modules_to_save=list(trained_modules(classifier)),
        )

    # PEFT shortens and extends the names in the config that it is given.
    as_asked = config()
    peft_model = get_peft_model(classifier.model, config())
    _check_all_new_is_trained(classifier, peft_model)
    return peft_model, as_asked


def _check_all_new_is_trained(classifier: Classifier, peft_model: PeftModel) -> None:
    trained = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", "")
        for name, parameter in peft_model.named_parameters()
        if parameter.requires_grad
    }
    left = sorted(classifier.new - trained)
    if left:
        raise TrainingError(
            f"{', '.join(left)} would stay random: {classifier.model.config.model_type} keeps "
            "parameters of its head where LoRA does not train them; take another base"
        )

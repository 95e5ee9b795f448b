"""The base encoder: its config, weights and tokenizer, checked before anything is trained on it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from optimum.utils import NormalizedConfigManager
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

logger = logging.getLogger(__name__)

# An encoder is what was, or could have been, pretrained by filling in masked words.
ENCODERS = frozenset(MODEL_FOR_MASKED_LM_MAPPING_NAMES) & frozenset(
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
)
POOLER = "pooler"


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


def load_config(folder: Path, **settings: Any) -> Any:
    """The base's config with the task's settings (id2label ...) in it.

    Raises TrainingError where the architecture is not an encoder.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, **settings)
    except (ValueError, OSError, KeyError) as problem:
        raise TrainingError(f"{folder}/config.json: {problem}") from problem
    if config.model_type not in ENCODERS or config.is_encoder_decoder:
        raise TrainingError(
            f"{folder}: architecture {config.model_type!r} is not an encoder that can be "
            f"fine-tuned here; take one of {', '.join(sorted(ENCODERS))}"
        )
    return config


def load_encoder(
    folder: Path, config: Any, dtype: torch.dtype | str, **settings: Any
) -> PreTrainedModel:
    """The base without its pooler, which nothing here reads; `settings` go to from_pretrained.

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
            **settings,
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as problem:
        raise TrainingError(f"{folder}: the weights do not load ({problem})") from problem
    _check_encoder(folder, encoder, set(info["missing_keys"]), set(info["unexpected_keys"]))
    if getattr(encoder, POOLER, None) is not None:
        encoder.pooler = None
    return encoder


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

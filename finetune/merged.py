"""The merged model's folder, plain Hugging Face and sentence-transformers formats by task:

text-classification, multi-label-classification: an encoder (config.json with the labels,
    model.safetensors, tokenizer) with its pooling and head beside it in sentence-transformers'
    layout; loaded whole, its `encode` gives the logits.
text-embedding: the same without the head; its `encode` gives the unit vectors.
token-classification: what AutoModelForTokenClassification loads.

Source: https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase

from edgeloop.errors import TrainingError
from edgeloop.rundir import write_atomic
from edgeloop.tasks import TASKS
from finetune.encoder import hidden_size, load_config, load_encoder
from finetune.model import MODELS, TaskModel

MODULES = "modules.json"
POOLING, NORMALIZE, DENSE = "1_Pooling", "2_Normalize", "3_Dense"
KINDS = {"": "Transformer", POOLING: "Pooling", NORMALIZE: "Normalize", DENSE: "Dense"}
WEIGHTS = "model.safetensors"
CLASSIFIER = "classifier"  # transformers' name of a plain linear head


def save_merged(
    encoder: PreTrainedModel,
    head: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    task: str,
    folder: Path,
) -> None:
    """Write the folder. `head`: weight (width, hidden), bias (width,), or nothing.

    Raises OSError where it cannot be written.
    """
    tagging = task == "token-classification"
    model = tagger_with(encoder.config, encoder, head) if tagging else encoder
    try:
        model.save_pretrained(folder)
    except SafetensorError as problem:  # its own type for a disk that is full
        raise OSError(f"{folder}: the merged model cannot be written ({problem})") from None
    if not tagging:
        _save_pooling(head, hidden_size(encoder.config), folder)
    for weights in folder.glob("*.safetensors"):  # written for the owner's eyes only
        shutil.copymode(folder / "config.json", weights)
    _save_tokenizer(tokenizer, folder)


def tagger_with(
    config: Any, encoder: PreTrainedModel, head: Mapping[str, torch.Tensor]
) -> PreTrainedModel:
    """transformers' own tagger around the encoder and the head.

    Raises TrainingError where the architecture's tagger is not an encoder with a linear head.
    """
    with torch.device("meta"):
        model = AutoModelForTokenClassification.from_config(config)
    prefix = f"{model.base_model_prefix}."
    beside = {name for name, _ in model.named_parameters() if not name.startswith(prefix)}
    if beside != {f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"}:
        raise TrainingError(
            f"architecture {config.model_type!r}: its token classifier has more than a linear head "
            f"({', '.join(sorted(beside))}), which a Hugging Face folder cannot hold here; take a "
            "bert, distilbert, roberta, xlm-roberta, mpnet, deberta-v2 or electra base"
        )
    state = {f"{prefix}{name}": tensor for name, tensor in encoder.state_dict().items()}
    state |= {f"{CLASSIFIER}.{name}": tensor.to(encoder.dtype) for name, tensor in head.items()}
    model.to_empty(device="cpu")
    model.load_state_dict(state, strict=False, assign=True)
    return model


def _save_pooling(head: Mapping[str, torch.Tensor], hidden: int, folder: Path) -> None:
    kinds = KINDS if head else {path: kind for path, kind in KINDS.items() if path != DENSE}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    _write_json(folder / MODULES, modules)
    pooling = {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}
    _write_json(folder / POOLING / "config.json", pooling)
    (folder / NORMALIZE).mkdir(exist_ok=True)
    if head:
        _save_dense(head, folder)


def _save_dense(head: Mapping[str, torch.Tensor], folder: Path) -> None:
    width, hidden = head["weight"].shape
    dense = {
        "in_features": hidden,
        "out_features": width,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write_json(folder / DENSE / "config.json", dense)
    tensors = {f"linear.{name}": head[name] for name in sorted(head)}
    write_atomic(folder / DENSE / WEIGHTS, save(tensors, {"format": "pt"}))


def load_merged(folder: Path, task: str, labels: Sequence[str]) -> TaskModel:
    """The merged model in fp32. Raises TrainingError where the folder is not such a model."""
    encoder = load_encoder(folder, load_config(folder), torch.float32)
    model = MODELS[task](encoder, TASKS[task].width(labels))
    model.set_folded_head(_read_head(folder, task))
    model.eval()
    return model


def _read_head(folder: Path, task: str) -> dict[str, torch.Tensor]:
    if task == "text-embedding":
        return {}
    if task == "token-classification":
        tensors, prefix = load_file(folder / WEIGHTS), f"{CLASSIFIER}."
    else:
        tensors, prefix = load_file(folder / DENSE / WEIGHTS), "linear."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    # A base's own limits (MiniLM: 128 tokens, padded to 128) are not those of the recipe.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.enable_padding(
        pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token
    )
    tokenizer.save_pretrained(folder)


def _write_json(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")

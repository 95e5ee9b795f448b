"""The merged model's folder: a plain Hugging Face encoder (config.json with the labels,
model.safetensors, tokenizer) with its pooling and head beside it in the layout of
sentence-transformers, which loads the folder whole; its `encode` then gives the logits.

Source: https://sbert.net/docs/package_reference/sentence_transformer/models.html
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from edgeloop.rundir import write_atomic
from finetune.model import Classifier, load_classifier

MODULES = "modules.json"
POOLING, NORMALIZE, DENSE = "1_Pooling", "2_Normalize", "3_Dense"
KINDS = (("", "Transformer"), (POOLING, "Pooling"), (NORMALIZE, "Normalize"), (DENSE, "Dense"))
DENSE_WEIGHTS = "model.safetensors"


def save_merged(
    encoder: PreTrainedModel,
    head: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    """Write the folder. `head`: weight (classes, hidden), bias (classes,), on the unit vector."""
    encoder.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written for the owner's eyes only
        shutil.copymode(folder / "config.json", weights)
    _save_tokenizer(tokenizer, folder)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(KINDS)
    ]
    _write_json(folder / MODULES, modules)
    classes, hidden = head["weight"].shape
    pooling = {"word_embedding_dimension": hidden, "pooling_mode_mean_tokens": True}
    _write_json(folder / POOLING / "config.json", pooling)
    (folder / NORMALIZE).mkdir()
    dense = {
        "in_features": hidden,
        "out_features": classes,
        "bias": True,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    _write_json(folder / DENSE / "config.json", dense)
    tensors = {f"linear.{name}": head[name] for name in sorted(head)}
    write_atomic(folder / DENSE / DENSE_WEIGHTS, save(tensors, {"format": "pt"}))


def load_merged(folder: Path, labels: Sequence[str]) -> Classifier:
    """The merged model in fp32. Raises TrainingError where the folder is not such a model."""
    classifier = load_classifier(folder, labels, torch.float32)
    dense = load_file(folder / DENSE / DENSE_WEIGHTS)
    classifier.set_folded_head({name.removeprefix("linear."): dense[name] for name in dense})
    return classifier


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

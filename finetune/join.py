"""Base plus adapter -> one model, with proof: every tensor of adapter and head is used exactly
once, and the merged model answers as the adapter on the base does.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from edgeloop.records import Adapter, MergedModel
from edgeloop.rundir import digest_entries, list_files
from edgeloop.tasks import TASKS
from finetune.adapt import ADAPTER, HEAD_WEIGHTS, Inputs
from finetune.encoder import POOLER, hidden_size, load_encoder
from finetune.merged import load_merged, save_merged
from finetune.methods.method import Merged, account, read_tensors
from finetune.proof import TOLERANCE, prove

PARITY_ROWS = 256


def merge_adapter(
    inputs: Inputs, adapter: Adapter, folder: Path, inputs_digest: str
) -> MergedModel:
    """Write the merged model into the folder and prove it.

    Raises MergeError where a tensor is not accounted for or the models do not agree.
    """
    task, labels, adapter_folder = inputs.recipe.task, adapter.labels, inputs.run.folder(ADAPTER)
    config = inputs.config()
    base = load_encoder(inputs.base.folder, config, "auto")
    tokenizer = inputs.tokenizer(config)
    width = TASKS[task].width(labels)
    head = _read_head(adapter_folder, hidden_size(config), width) if width else {}
    merged = inputs.method.merge(base, adapter_folder)
    save_merged(_encoder(base, config, merged), head, tokenizer, task, folder)
    adapted = inputs.model()
    inputs.method.restore(adapted, adapter_folder)
    adapted.set_folded_head(head)
    rows = inputs.encoded(tokenizer, "test", PARITY_ROWS)
    return MergedModel(
        inputs_digest=inputs_digest,
        files=list_files(folder),
        base_digest=inputs.base.digest,
        adapter_digest=digest_entries(adapter.files),
        dataset_digest=inputs.dataset.digest,
        labels=labels,
        adapter_tensors=merged.adapter_tensors + len(head),
        merged_weights=merged.summed,
        copied_tensors=merged.copied,
        parity=prove(adapted, load_merged(folder, task, labels), rows, TOLERANCE[base.dtype]),
    )


def _encoder(base: PreTrainedModel, config: Any, merged: Merged) -> PreTrainedModel:
    """The base with the merged tensors, rebuilt where they have other shapes."""
    if not merged.config:
        base.load_state_dict(merged.tensors)
        return base
    config.update(merged.config)
    encoder: PreTrainedModel = AutoModel.from_config(config, dtype=base.dtype)
    if getattr(encoder, POOLER, None) is not None:
        encoder.pooler = None
    encoder.load_state_dict(merged.tensors)
    return encoder


def _read_head(folder: Path, hidden: int, width: int) -> dict[str, torch.Tensor]:
    """The trained head: weight (width, hidden), bias (width,).

    Raises MergeError where a tensor is missing, left over or misshapen.
    """
    head = read_tensors(folder / HEAD_WEIGHTS)
    account({"weight": (width, hidden), "bias": (width,)}, head)
    return head

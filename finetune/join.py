"""Base plus adapter -> one model, with proof: every tensor of adapter and head is used exactly
once, and the merged model answers as the adapter on the base does.
"""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, PreTrainedModel

from edgeloop.records import Adapter, MergedModel, MergeGap, Parity
from edgeloop.rundir import digest_entries, list_files
from edgeloop.tasks import TASKS
from finetune.adapt import ADAPTER, HEAD_WEIGHTS, Inputs
from finetune.batches import Encoded
from finetune.encoder import POOLER, hidden_size, load_encoder
from finetune.merged import load_merged, save_merged
from finetune.methods.method import Merged, account, read_tensors
from finetune.model import MODELS, Head, TaskModel
from finetune.proof import TOLERANCE, prove
from finetune.train import Figures, evaluate

PARITY_ROWS = 256


@dataclass(frozen=True)
class Candidate:
    """A merge that may be kept: `base` names what the adapter was merged into, and `adapted` is the
    adapter on that base, unmerged."""

    base: str
    encoder: PreTrainedModel
    merged: Merged
    adapted: TaskModel


def merge_adapter(
    inputs: Inputs, adapter: Adapter, folder: Path, inputs_digest: str
) -> MergedModel:
    """Write the merged model into the folder and prove it; of several, the one that answers the
    validation rows best.

    Raises MergeError where a tensor is not accounted for or the models do not agree.
    """
    task, labels, config = inputs.recipe.task, adapter.labels, inputs.config()
    tokenizer = inputs.tokenizer(config)
    width = TASKS[task].width(labels)
    adapter_folder = inputs.run.folder(ADAPTER)
    head = read_head(adapter_folder, hidden_size(config), width) if width else {}
    found = _candidates(inputs, head)
    rows = inputs.encoded(tokenizer, "test", PARITY_ROWS)
    tolerance = TOLERANCE[found[0].encoder.dtype]
    gaps: tuple[MergeGap, ...] = ()
    if len(found) > 1:
        # What was trained must be what was trained, whichever merge is then the better one.
        prove(found[0].adapted, _model(found[0], task, head), rows, tolerance)
        found, gaps = _judged(found, inputs.encoded(tokenizer, "validation"), head)
    kept = found[0]
    save_merged(kept.encoder, head, tokenizer, task, folder)
    parity = prove(kept.adapted, load_merged(folder, task, labels), rows, tolerance)
    return MergedModel(
        inputs_digest=inputs_digest,
        files=list_files(folder),
        base_digest=inputs.base.digest,
        adapter_digest=digest_entries(adapter.files),
        dataset_digest=inputs.dataset.digest,
        labels=labels,
        adapter_tensors=kept.merged.adapter_tensors + len(head),
        merged_weights=kept.merged.summed,
        copied_tensors=kept.merged.copied,
        parity=parity,
        proof=_in_words(kept, parity),
        qlora_gap=gaps,
    )


def _candidates(inputs: Inputs, head: Head) -> list[Candidate]:
    """A merge into every base that the method names; the first is that of the training."""
    method, folder = inputs.method, inputs.run.folder(ADAPTER)
    base_folder, settings = inputs.base.folder, inputs.recipe.finetune
    found: list[Candidate] = []
    for name, base in method.merge_bases(base_folder, inputs.config(), settings).items():
        merged = method.merge(base, folder)
        if found:
            encoder = load_encoder(base_folder, inputs.config(), torch.float32)
            adapted = MODELS[inputs.recipe.task](encoder, found[0].adapted.width)
        else:
            adapted = inputs.model()
        method.restore(adapted, folder)
        adapted.set_folded_head(head)
        found.append(Candidate(name, encoder_of(base, inputs.config(), merged), merged, adapted))
    return found


def _judged(
    candidates: list[Candidate], rows: Encoded, head: Head
) -> tuple[list[Candidate], tuple[MergeGap, ...]]:
    """Best first, by the task's figure and then by the loss on the rows, with how far each is from
    the model as it was trained."""
    trained = evaluate(candidates[0].adapted, rows)
    found = [
        (evaluate(_model(candidate, rows.task, head), rows), candidate) for candidate in candidates
    ]

    def rank(entry: tuple[Figures, Candidate]) -> tuple[float, float]:
        return -entry[0].metric, entry[0].loss

    found.sort(key=rank)
    gaps = tuple(
        MergeGap(
            base=candidate.base,
            loss_rise=figures.loss - trained.loss,
            metric_drop=trained.metric - figures.metric,
        )
        for figures, candidate in found
    )
    return [candidate for _, candidate in found], gaps


def _model(candidate: Candidate, task: str, head: Head) -> TaskModel:
    """The merged model in fp32, before it is written."""
    encoder = deepcopy(candidate.encoder).float()
    model = MODELS[task](encoder, candidate.adapted.width)
    model.set_folded_head(head)
    return model


def _in_words(kept: Candidate, parity: Parity) -> str:
    return (
        f"answers like the adapter on {kept.base}, unmerged: {parity.rows} test rows differ by at "
        f"most {parity.max_abs_difference:.2g} (tolerance {parity.tolerance:g}), "
        f"{parity.argmax_agreement_ratio:.2%} of the answers are the same"
    )


def encoder_of(base: PreTrainedModel, config: Any, merged: Merged) -> PreTrainedModel:
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


def read_head(folder: Path, hidden: int, width: int) -> dict[str, torch.Tensor]:
    """The trained head: weight (width, hidden), bias (width,).

    Raises MergeError where a tensor is missing, left over or misshapen.
    """
    head = read_tensors(folder / HEAD_WEIGHTS)
    account({"weight": (width, hidden), "bias": (width,)}, head)
    return head

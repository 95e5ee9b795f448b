"""The entries of the stage: rows -> dataset/, dataset -> adapter/, adapter -> merged/.

Each is skipped where its record was made from the same inputs; `train` goes on from its last epoch
after a kill. Run by `edgeloop run`, `edgeloop finetune` and `edgeloop merge`.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import save
from transformers import PreTrainedTokenizerBase

from edgeloop.errors import DatasetError, EdgeloopError, MergeError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, FileEntry, MergedModel
from edgeloop.rows import read_rows, write_rows
from edgeloop.rundir import (
    RECORD_NAME,
    RunDir,
    digest_entries,
    digest_file,
    list_files,
    write_atomic,
)
from edgeloop.tasks import TASKS
from finetune.base import Base, resolve_base
from finetune.batches import Encoded, encode
from finetune.checkpoint import CHECKPOINT, trainable
from finetune.dataset import audit, load, source_files
from finetune.extra import add_extra
from finetune.merge import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    HEAD_WEIGHTS,
    TOLERANCE,
    merge_tensors,
    prove,
    read_adapter,
    read_head,
)
from finetune.merged import load_merged, save_merged
from finetune.model import (
    Classifier,
    attach_lora,
    hidden_size,
    load_classifier,
    load_config,
    load_encoder,
    load_tokenizer,
    quiet_transformers,
)
from finetune.split import digest_ratio
from finetune.train import Say, best_epoch, deterministic, fit

__all__ = ["DATASET", "ADAPTER", "MERGED", "audit", "merge", "prepare", "train"]

logger = logging.getLogger(__name__)

DATASET, ADAPTER, MERGED = "dataset", "adapter", "merged"
PARITY_ROWS = 256


@dataclass(frozen=True)
class Inputs:
    """What training and merging both read."""

    recipe: Recipe
    dataset: Dataset
    run: RunDir
    base: Base

    def tokenizer(self, config: Any) -> PreTrainedTokenizerBase:
        """The base's tokenizer, able to read serve.max_tokens."""
        return load_tokenizer(self.base.folder, config, self.recipe.serve.max_tokens)

    def encoded(
        self, tokenizer: PreTrainedTokenizerBase, split: str, most: int | None = None
    ) -> Encoded:
        """A split's rows as token ids; with `most`, that many of them, drawn by their ids."""
        rows = read_rows(self.run.folder(DATASET), split)
        if most is not None:
            rows = sorted(rows, key=lambda row: digest_ratio(row.id))[:most]
        return encode(rows, self.dataset.labels, tokenizer, self.recipe.serve.max_tokens)


def prepare(recipe: Recipe, run: RunDir, extra: Sequence[LabelledRow] = ()) -> Dataset:
    """Check the rows, split them and write one jsonl per split; labelled rows from production in
    `extra` join train, validation and reference, and `fresh`, which is never trained on.

    Raises DatasetError with all problems, at most 20 lines.
    """
    sources = _sources(recipe)
    depends_on = {
        "task": recipe.task,
        "data": recipe.data.model_dump(mode="json", exclude={"files"}),
        "files": [(split, entry.sha256) for split, entry in sources],
        "extra": [asdict(row) for row in extra],
    }

    def work(folder: Path, inputs_digest: str) -> Dataset:
        rows = load(recipe)
        if extra:
            rows = add_extra(rows, extra, recipe.task)
        for name, split in rows.splits.items():
            write_rows(folder / f"{name}.jsonl", split)
        files = list_files(folder)
        return Dataset(
            inputs_digest=inputs_digest,
            files=files,
            digest=digest_entries(files),
            labels=TASKS[recipe.task].labels(rows.splits["train"]),
            rows={name: len(split) for name, split in rows.splits.items()},
            sources=tuple(entry for _, entry in sources),
            reference_is_test=rows.reference_is_test,
            warnings=rows.warnings,
        )

    dataset = run.run_stage(DATASET, Dataset, depends_on, work)
    logger.info("stage=dataset digest=%s rows=%s", dataset.digest[:8], json.dumps(dataset.rows))
    return dataset


def _sources(recipe: Recipe) -> list[tuple[str, FileEntry]]:
    """(split, entry) per source file; names without folders, so that a digest holds anywhere."""
    named = source_files(recipe.data)
    missing = [f"{path}: there is no such file" for _, path in named if not path.is_file()]
    if missing:
        raise DatasetError("\n".join(missing))
    return [
        (
            split,
            FileEntry(path=path.name, bytes=path.stat().st_size, sha256=digest_file(path)),
        )
        for split, path in named
    ]


def train(recipe: Recipe, dataset: Dataset, run: RunDir, progress: Say) -> Adapter:
    """Fine-tune with LoRA; `adapter/` holds what plain PEFT loads.

    Raises TrainingError where the base cannot be used or the training diverges.
    """
    _check_files(run.folder(DATASET), dataset.files)
    base = resolve_base(recipe.base)
    inputs = Inputs(recipe, dataset, run, base)
    depends_on = {
        "dataset": dataset.digest,
        "base": base.digest,
        "base_name": base.name,
        "finetune": recipe.finetune.model_dump(mode="json"),
        "max_tokens": recipe.serve.max_tokens,
    }

    def work(folder: Path, inputs_digest: str) -> Adapter:
        with quiet_transformers(), deterministic(recipe.finetune.training.seed):
            return _train(inputs, folder, inputs_digest, progress)

    adapter = run.run_stage(ADAPTER, Adapter, depends_on, work)
    logger.info(
        "stage=adapter best_epoch=%d epochs=%d seconds=%.1f",
        adapter.best_epoch,
        len(adapter.epochs),
        adapter.seconds,
    )
    return adapter


def _check_files(folder: Path, entries: tuple[FileEntry, ...]) -> None:
    if list_files(folder) != entries:
        raise EdgeloopError(
            f"{folder}: the files are not those that its record names; delete the folder and run "
            "its stage again"
        )


def _train(inputs: Inputs, folder: Path, inputs_digest: str, progress: Say) -> Adapter:
    recipe, dataset = inputs.recipe, inputs.dataset
    classifier = load_classifier(inputs.base.folder, dataset.labels, torch.float32)
    total = sum(parameter.numel() for parameter in classifier.parameters())
    tokenizer = inputs.tokenizer(classifier.encoder.config)
    config = attach_lora(classifier, recipe.finetune.lora, inputs.base.name)
    rows, validation = (inputs.encoded(tokenizer, split) for split in ("train", "validation"))
    trained = sum(parameter.numel() for parameter in trainable(classifier).values())
    progress(f"training {trained} of {total} parameters on {len(rows)} rows")
    epochs = fit(classifier, rows, validation, recipe.finetune.training, folder, progress)
    _save_adapter(classifier, config, folder)
    files = list_files(folder, (RECORD_NAME, CHECKPOINT))
    (folder / CHECKPOINT).unlink()
    return Adapter(
        inputs_digest=inputs_digest,
        files=files,
        method=recipe.finetune.method,
        base=inputs.base.name,
        base_digest=inputs.base.digest,
        dataset_digest=dataset.digest,
        labels=dataset.labels,
        trainable_parameters=trained,
        total_parameters=total,
        epochs=tuple(epochs),
        best_epoch=best_epoch(epochs).epoch,
        seed=recipe.finetune.training.seed,
        seconds=sum(epoch.seconds for epoch in epochs),
    )


def _save_adapter(classifier: Classifier, config: LoraConfig, folder: Path) -> None:
    """PEFT's two files and the head's, the same bytes for the same adapter."""
    config.inference_mode = True
    document = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / ADAPTER_CONFIG, text.encode())
    state = get_peft_model_state_dict(classifier.encoder, save_embedding_layers=False)
    for name, tensors in ((ADAPTER_WEIGHTS, state), (HEAD_WEIGHTS, classifier.folded_head())):
        ordered = {key: tensors[key].contiguous() for key in sorted(tensors)}
        write_atomic(folder / name, save(ordered, {"format": "pt"}))


def merge(recipe: Recipe, dataset: Dataset, adapter: Adapter, run: RunDir) -> MergedModel:
    """Merge the adapter into its base and prove it; `merged/` is a plain Hugging Face folder.

    Raises MergeError where a tensor is not accounted for or the models do not agree.
    """
    base = resolve_base(recipe.base)
    if base.digest != adapter.base_digest:
        raise MergeError(f"base {base.name!r} changed since the adapter was trained; train again")
    _check_files(run.folder(ADAPTER), adapter.files)
    inputs = Inputs(recipe, dataset, run, base)
    depends_on = {
        "adapter": digest_entries(adapter.files),
        "base": base.digest,
        "dataset": dataset.digest,
        "max_tokens": recipe.serve.max_tokens,
    }

    def work(folder: Path, inputs_digest: str) -> MergedModel:
        with quiet_transformers():
            return _merge(inputs, adapter, folder, inputs_digest)

    merged = run.run_stage(MERGED, MergedModel, depends_on, work)
    logger.info(
        "stage=merged rows=%d max_abs_difference=%.3g argmax_agreement_ratio=%.4f",
        merged.parity.rows,
        merged.parity.max_abs_difference,
        merged.parity.argmax_agreement_ratio,
    )
    return merged


def _merge(inputs: Inputs, adapter: Adapter, folder: Path, inputs_digest: str) -> MergedModel:
    base, labels, adapter_folder = inputs.base, adapter.labels, inputs.run.folder(ADAPTER)
    config = load_config(base.folder, labels)
    encoder = load_encoder(base.folder, config, "auto")
    tokenizer = inputs.tokenizer(config)
    settings, tensors = read_adapter(adapter_folder)
    head = read_head(adapter_folder, hidden_size(config), len(labels))
    merged = merge_tensors(encoder.state_dict(), tensors, settings)
    encoder.load_state_dict(merged.tensors)
    save_merged(encoder, head, tokenizer, folder)
    adapted = load_classifier(base.folder, labels, torch.float32)
    adapted.encoder = PeftModel.from_pretrained(adapted.encoder, adapter_folder)
    adapted.set_folded_head(head)
    rows = inputs.encoded(tokenizer, "test", PARITY_ROWS)
    return MergedModel(
        inputs_digest=inputs_digest,
        files=list_files(folder),
        base_digest=base.digest,
        adapter_digest=digest_entries(adapter.files),
        dataset_digest=inputs.dataset.digest,
        labels=labels,
        adapter_tensors=len(tensors) + len(head),
        merged_weights=merged.summed,
        copied_tensors=merged.copied,
        parity=prove(adapted, load_merged(folder, labels), rows, TOLERANCE[encoder.dtype]),
    )

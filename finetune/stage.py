"""The entries of the stage: rows -> dataset/, dataset -> adapter/, adapter -> merged/.

Each is skipped where its record was made from the same inputs; `train` goes on from its last
checkpoint after a kill. Run by `edgeloop run`, `edgeloop finetune` and `edgeloop merge`.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgeloop.bundle import Bundle
from edgeloop.errors import DatasetError, MergeError, RecipeError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, FileEntry, MergedModel
from edgeloop.rows import UNLABELLED, write_rows
from edgeloop.rundir import RunDir, digest_entries, digest_file, list_files
from edgeloop.tasks import TASKS
from finetune.adapt import ADAPTER, DATASET, MERGED, Inputs, check_files, train_adapter
from finetune.audit import refuse_errors
from finetune.base import resolve_base
from finetune.dataset import audit, load, outside, source_files
from finetune.encoder import quiet_transformers
from finetune.extra import add_extra
from finetune.join import merge_adapter
from finetune.methods.registry import METHODS
from finetune.retention.previous import check_retention
from finetune.retention.replay import add_replay, replay_inputs
from finetune.train import Say, deterministic

__all__ = ["DATASET", "ADAPTER", "MERGED", "audit", "merge", "prepare", "train"]

logger = logging.getLogger(__name__)


def prepare(
    recipe: Recipe,
    run: RunDir,
    extra: Sequence[LabelledRow] = (),
    previous: Bundle | None = None,
) -> Dataset:
    """Check the rows, split them and write one jsonl per split; labelled rows from production in
    `extra` join train, validation and reference, and `fresh`, which is never trained on; where the
    recipe replays, rows that the `previous` model knew join train.

    Raises DatasetError with all problems, at most 20 lines, RecipeError where there is nothing to
    replay.
    """
    sources = _sources(recipe)
    depends_on = {
        "task": recipe.task,
        "data": recipe.data.model_dump(mode="json", exclude={"files", "unlabelled", "audit"}),
        "base": recipe.base,
        "max_tokens": recipe.serve.max_tokens,
        "files": [(split, entry.sha256) for split, entry in sources],
        "extra": [asdict(row) for row in extra],
        **replay_inputs(recipe, previous),
    }

    def work(folder: Path, inputs_digest: str) -> Dataset:
        rows = load(recipe)
        refuse_errors(rows.splits, recipe)
        if extra:
            rows = add_extra(rows, extra, recipe.task)
        if recipe.finetune.retention.replay_ratio > 0.0:
            rows = add_replay(rows, recipe, previous)
        for name, split in rows.splits.items():
            write_rows(folder / f"{name}.jsonl", split)
        if recipe.data.unlabelled:
            # Once more: labelled rows from production may have joined the splits.
            unlabelled = outside(rows.unlabelled, rows.splits)
            write_rows(folder / f"{UNLABELLED}.jsonl", unlabelled)
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


def train(
    recipe: Recipe,
    dataset: Dataset,
    run: RunDir,
    progress: Say,
    previous: Bundle | None = None,
) -> Adapter:
    """Fine-tune by the recipe's method; `adapter/` holds what PEFT or transformers loads. The
    `previous` model is distilled where the recipe says so.

    Raises TrainingError where the base cannot be used or the training diverges.
    """
    check_files(run.folder(DATASET), dataset.files)
    base = resolve_base(recipe.base)
    check_retention(recipe, previous)
    teacher = previous if recipe.finetune.retention.distillation_weight > 0.0 else None
    inputs = Inputs(recipe, dataset, run, base, teacher)

    def work(folder: Path, inputs_digest: str) -> Adapter:
        with quiet_transformers(), deterministic(recipe.finetune.training.seed):
            return train_adapter(inputs, folder, inputs_digest, progress)

    adapter = run.run_stage(ADAPTER, Adapter, inputs.depends_on(), work)
    logger.info(
        "stage=adapter best_epoch=%d epochs=%d seconds=%.1f",
        adapter.best_epoch,
        len(adapter.epochs),
        adapter.seconds,
    )
    return adapter


def merge(recipe: Recipe, dataset: Dataset, adapter: Adapter, run: RunDir) -> MergedModel:
    """Merge the adapter into its base and prove it; `merged/` is a plain Hugging Face folder.

    Raises MergeError where a tensor is not accounted for or the models do not agree.
    """
    base = resolve_base(recipe.base)
    if base.digest != adapter.base_digest:
        raise MergeError(f"base {base.name!r} changed since the adapter was trained; train again")
    check_files(run.folder(ADAPTER), adapter.files)
    inputs = Inputs(recipe, dataset, run, base)
    depends_on = {
        "adapter": digest_entries(adapter.files),
        "base": base.digest,
        "dataset": dataset.digest,
        "max_tokens": recipe.serve.max_tokens,
    }

    def work(folder: Path, inputs_digest: str) -> MergedModel:
        with quiet_transformers():
            return merge_adapter(inputs, adapter, folder, inputs_digest)

    merged = run.run_stage(MERGED, MergedModel, depends_on, work)
    logger.info(
        "stage=merged rows=%d max_abs_difference=%.3g argmax_agreement_ratio=%.4f",
        merged.parity.rows,
        merged.parity.max_abs_difference,
        merged.parity.argmax_agreement_ratio,
    )
    return merged


def unmergeable(recipe: Recipe) -> str | None:
    """Why the recipe's method gives nothing that can ship, and what to use instead; None where it
    can."""
    reason = METHODS[recipe.finetune.method].unmergeable
    return None if reason is None else f"finetune.method {recipe.finetune.method}: {reason}"


def refuse_unmergeable(recipe: Recipe) -> None:
    """Before anything is trained: a method whose result cannot ship must not cost the hours.

    Raises RecipeError with what to use instead.
    """
    for method in recipe.finetune.methods():
        reason = METHODS[method].unmergeable
        if reason is not None:
            raise RecipeError(f"finetune.method {method}: {reason}")

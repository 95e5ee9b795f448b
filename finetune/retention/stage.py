"""Merged model -> retention: what the new model has forgotten. Writes retention/record.json."""

import logging
from pathlib import Path

import numpy as np

from edgeloop.bundle import Bundle
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset, MergedModel
from edgeloop.records_retention import RetentionRecord
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import RunDir, digest_entries, digest_file
from edgeloop.tasks import TASKS
from finetune.retention.previous import answers, comparable
from finetune.retention.suite import classes_of, has_suite, measured_suite, retention_files
from finetune.retention.verdict import Right, judge
from finetune.scoring import score_merged

RETENTION = "retention"

logger = logging.getLogger(__name__)


def measure(
    recipe: Recipe,
    dataset: Dataset,
    merged: MergedModel,
    previous: Bundle | None,
    run: RunDir,
) -> RetentionRecord | None:
    """Answer the suite with the previous model and the new one; None where there is no suite.

    A previous model that was made of this very merged model has nothing to forget: it counts as
    none. Raises DatasetError where retention.files are not good rows.
    """
    compared = None if _is_made_of(previous, merged) else comparable(recipe, previous)
    if not has_suite(recipe, compared):
        return None
    retention = recipe.finetune.retention
    depends_on = {
        "merged": digest_entries(merged.files),
        "dataset": dataset.digest,
        "previous": None if compared is None else compared.digest,
        "files": [digest_file(path) for path in retention_files(recipe)],
        "data": recipe.data.model_dump(mode="json", exclude={"files", "unlabelled"}),
        "max_drop": retention.max_drop,
        "confidence": recipe.compress.budget.confidence,
        "is_replayed": retention.replay_ratio > 0.0,
        "max_tokens": recipe.serve.max_tokens,
    }

    def work(_: Path, inputs_digest: str) -> RetentionRecord:
        return _measure(recipe, dataset, compared, run, inputs_digest)

    record = run.run_stage(RETENTION, RetentionRecord, depends_on, work)
    logger.info("stage=retention verdict=%s rows=%d", record.verdict, record.rows)
    return record


def _is_made_of(previous: Bundle | None, merged: MergedModel) -> bool:
    if previous is None:
        return False
    return previous.manifest.parents.get("merged") == digest_entries(merged.files)


def _measure(
    recipe: Recipe, dataset: Dataset, previous: Bundle | None, run: RunDir, inputs_digest: str
) -> RetentionRecord:
    splits = run.folder("dataset")
    trained = [row for split in ("train", "validation") for row in read_rows(splits, split)]
    suite = measured_suite(recipe, previous, trained)
    before, after = _right(recipe, dataset, previous, run, suite.rows)
    retention = recipe.finetune.retention
    judgement = judge(
        before,
        after,
        [classes_of(row) for row in suite.rows],
        retention.max_drop,
        recipe.compress.budget.confidence,
    )
    return RetentionRecord(
        inputs_digest=inputs_digest,
        files=(),
        previous=None if previous is None else previous.digest,
        verdict=judgement.verdict,
        passed=judgement.passed,
        reasons=judgement.reasons,
        rows=len(suite.rows),
        golden_rows=suite.golden,
        left_out=suite.left_out,
        before=float(before.mean()) if before is not None and before.size else None,
        after=float(after.mean()) if after.size else None,
        max_drop=retention.max_drop,
        drop=judgement.drop,
        rows_needed=judgement.rows_needed,
        classes=judgement.classes,
    )


def _right(
    recipe: Recipe, dataset: Dataset, previous: Bundle | None, run: RunDir, rows: tuple[Row, ...]
) -> tuple[Right | None, Right]:
    """(previous, new): which rows each model answers rightly, (rows,)."""
    if not rows:
        return None, np.zeros(0, dtype=bool)
    task, labels = TASKS[recipe.task], dataset.labels
    inputs = task.inputs(rows)
    merged, most = run.folder("merged"), recipe.serve.max_tokens
    after = task.right(score_merged(merged, recipe.task, labels, inputs, most), rows, labels)
    if previous is None:
        return None, after
    return task.right(answers(previous, inputs), rows, previous.manifest.labels), after

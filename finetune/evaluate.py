"""The stage merged/ -> evaluation/: the merged model answers the test rows.

`evaluation/` holds the record, and errors.jsonl with the texts of the worst errors, which never
leaves the run folder.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeloop.recipe import Recipe
from edgeloop.records import Dataset, MergedModel
from edgeloop.records_evaluation import Evaluation
from edgeloop.rows import TextInput, read_rows
from edgeloop.rundir import RunDir, digest_entries, list_files
from edgeloop.runtime import RowOutput
from finetune.evaluation.errors import ERRORS, write_errors
from finetune.evaluation.findings import Findings, evaluate, texts_to_score
from finetune.evaluation.judged import HEADLINE
from finetune.evaluation.measure import CONFIDENCE, RESAMPLES, interval
from finetune.evaluation.slices import slices

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"
# Part of the inputs: a figure that is taken otherwise is taken anew.
VERSION = 1

# finetune.scoring.score_merged: (folder, task, labels, inputs, max_tokens) -> one output per input.
ScoreMerged = Callable[[Path, str, Sequence[str], Sequence[TextInput], int], list[RowOutput]]


def run(
    recipe: Recipe,
    dataset: Dataset,
    merged: MergedModel,
    run_dir: RunDir,
    progress: Callable[[str], None],
    score: ScoreMerged,
) -> Evaluation:
    """Skipped where it was done for this model and these rows.

    Raises DatasetError where there are no test rows.
    """
    depends_on = {
        "task": recipe.task,
        "merged": digest_entries(merged.files),
        "dataset": dataset.digest,
        "max_tokens": recipe.serve.max_tokens,
        "version": VERSION,
    }

    def work(folder: Path, inputs_digest: str) -> Evaluation:
        rows = read_rows(run_dir.folder("dataset"), "test")
        inputs = texts_to_score(recipe.task, rows)
        progress(f"evaluating the merged model on {len(rows)} test rows")
        outputs = score(
            run_dir.folder("merged"), recipe.task, merged.labels, inputs, recipe.serve.max_tokens
        )
        findings = evaluate(recipe.task, merged.labels, rows, outputs)
        write_errors(folder / ERRORS, findings.mistakes)
        return _record(recipe.task, dataset, depends_on["merged"], findings, folder, inputs_digest)

    evaluation = run_dir.run_stage(EVALUATION, Evaluation, depends_on, work)
    figure = evaluation.figures[evaluation.headline]
    logger.info(
        "stage=evaluation rows=%d %s=%.4f low=%.4f high=%.4f",
        *(evaluation.rows, evaluation.headline, figure.value, figure.low, figure.high),
    )
    return evaluation


def _record(
    task: str,
    dataset: Dataset,
    merged_digest: object,
    findings: Findings,
    folder: Path,
    inputs_digest: str,
) -> Evaluation:
    judged = findings.judged
    found, worst = slices(findings.rows, judged.right)
    return Evaluation(
        inputs_digest=inputs_digest,
        files=list_files(folder),
        task=task,
        dataset_digest=dataset.digest,
        merged_digest=str(merged_digest),
        rows=len(findings.rows),
        headline=HEADLINE[task][0],
        figures={name: interval(measure) for name, measure in judged.figures.items()},
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        right_ratio=float(judged.right.mean()),
        brier=findings.brier,
        calibration=findings.calibration,
        classes=judged.classes,
        confusion=findings.confusion,
        slices=found,
        worst_slice=worst,
    )

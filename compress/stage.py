"""The stage's entry: merged model -> candidates -> the preferred one that meets the budget.

Reads dataset/*.jsonl and merged/ of the run; writes candidates/<kind>/{model.onnx,tokenizer.json,
record.json} and the certificate as candidates/record.json. What a killed attempt has completed,
sources and candidates, is taken up again; measurements are taken anew.
"""

import logging
import shutil
import tempfile
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from compress.budget import limits
from compress.candidates import of_task
from compress.job import Job, Progress
from compress.judge import Judge
from compress.shortlist import Shortlist
from compress.teacher import SOURCES, Teacher
from compress.workshop import build
from edgeloop.errors import ExportError
from edgeloop.machine import describe_machine
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset, MergedModel
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.rundir import RunDir, digest_entries, list_files

TOOLS = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")
# Bump where a change of the method must make runs compress again.
METHOD_VERSION = 2

logger = logging.getLogger(__name__)


def run(
    recipe: Recipe, dataset: Dataset, merged: MergedModel, run: RunDir, progress: Progress
) -> Certificate:
    """Make, measure and judge the candidates; the certificate's `chosen` is None where none is
    shown to meet the budget.

    Raises ExportError where the merged model cannot be exported, the export is another model, or
    no candidate can be built.
    """
    inputs = {
        "merged": digest_entries(merged.files),
        "dataset": dataset.digest,
        "task": recipe.task,
        "compress": recipe.compress.model_dump(mode="json"),
        "max_tokens": recipe.serve.max_tokens,
        "tools": {name: version(name) for name in TOOLS},
        "method_version": METHOD_VERSION,
    }

    def work(folder: Path, inputs_digest: str) -> Certificate:
        _clear(folder)
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as scratch:
            job = Job(
                recipe=recipe,
                record=merged,
                merged_folder=run.folder("merged"),
                data=run.folder("dataset"),
                folder=folder,
                scratch=Path(scratch),
                inputs_digest=inputs_digest,
                progress=progress,
            )
            return _certificate(job)

    certificate = run.run_stage("candidates", Certificate, inputs, work)
    logger.info("stage=candidates chosen=%s of=%d", certificate.chosen, len(certificate.candidates))
    return certificate


def _clear(folder: Path) -> None:
    """Remove what a killed attempt left half-made; what is complete has a name without a dot."""
    for path in folder.iterdir():
        if path.is_dir() and path.name.startswith(".") and path.name != SOURCES:
            shutil.rmtree(path)


def _certificate(job: Job) -> Certificate:
    teacher = Teacher(job)
    judge = Judge(job, teacher)
    wanted = job.recipe.compress.candidates
    built = build(job, teacher, of_task(job.recipe.task) if wanted == "auto" else wanted)
    screened, left_out = judge.screen(built.folders)
    left_out = built.failures | left_out
    if not screened:
        raise _nothing(job, left_out)
    named, candidates, failures = judge.judge(built.folders, screened)
    left_out |= failures
    for kind, reason in left_out.items():
        job.progress(f"{kind} left out: {reason}")
    if not candidates:
        raise _nothing(job, left_out)
    teacher.discard()
    _keep_only(job.folder, {found.kind for found in candidates})
    return _certify(job, named, candidates, left_out)


def _keep_only(folder: Path, kinds: Collection[str]) -> None:
    """Remove the folders of what was left out, and of parts that nobody asked for."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in kinds:
            shutil.rmtree(path)


def _nothing(job: Job, left_out: dict[str, str]) -> ExportError:
    said = "; ".join(f"{kind}: {reason}" for kind, reason in left_out.items())
    return ExportError(f"{job.merged_folder}: no candidate could be built and measured ({said})")


def _certify(
    job: Job, named: Shortlist, candidates: tuple[Candidate, ...], left_out: dict[str, str]
) -> Certificate:
    compress = job.recipe.compress
    passed = {found.kind for found in candidates if found.finalist and not found.misses}
    return Certificate(
        inputs_digest=job.inputs_digest,
        files=list_files(job.folder),
        labels=job.record.labels,
        budget=limits(compress.budget),
        confidence=compress.budget.confidence,
        prefer=compress.prefer,
        chosen=next((kind for kind in named.finalists if kind in passed), None),
        finalists=named.finalists,
        finalist_confidence=named.confidence,
        choosing_rows=len(job.rows.choosing),
        candidates=candidates,
        left_out=left_out,
        machine=describe_machine(),
    )

"""The stage's entry: merged model -> candidates -> the smallest that meets the budget.

Reads dataset/*.jsonl and merged/ of the run; writes candidates/<kind>/{model.onnx,tokenizer.json,
record.json} and the certificate as candidates/record.json.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from compress.budget import choose, limits, misses
from compress.candidates import CANDIDATES
from compress.evaluate import Evaluation, Texts, evaluate
from compress.export import export_merged
from compress.machine import describe_machine
from compress.merged import load_merged
from compress.parity import Expected, check_parity
from compress.rows import GateRows, read_gate_rows, read_training_inputs
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.recipe import Recipe
from edgeloop.records import Candidate, Certificate, Dataset, MergedModel, Parity
from edgeloop.rows import TextInput
from edgeloop.rundir import RECORD_NAME, RunDir, digest_entries, list_files
from edgeloop.runtime import OnnxModel, RowOutput
from edgeloop.statistics import paired_drop
from edgeloop.tasks import TASKS

TOOLS = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")
PROGRESS_EVERY_ROWS = 200

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """All that the stage works from. `texts` is what the model reads to be judged on `rows`."""

    recipe: Recipe
    record: MergedModel
    merged_folder: Path
    folder: Path
    scratch: Path
    inputs_digest: str
    rows: GateRows
    texts: list[TextInput]
    training: list[TextInput]
    progress: Progress


@dataclass(frozen=True)
class Exported:
    """The fp32 model.onnx, proven equal to the merged model; `reference` is that model's answers
    to the job's texts."""

    source: Source
    exporter: str
    parity: Parity
    reference: list[RowOutput]


def run(
    recipe: Recipe, dataset: Dataset, merged: MergedModel, run: RunDir, progress: Progress
) -> Certificate:
    """Make, measure and judge the candidates; the certificate's `chosen` is None where none meets
    the budget.

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
    }

    def work(folder: Path, inputs_digest: str) -> Certificate:
        _clear(folder)
        with tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder) as scratch:
            data, task = run.folder("dataset"), TASKS[recipe.task]
            rows = read_gate_rows(data)
            job = Job(
                recipe=recipe,
                record=merged,
                merged_folder=run.folder("merged"),
                folder=folder,
                scratch=Path(scratch),
                inputs_digest=inputs_digest,
                rows=rows,
                texts=task.inputs(rows.rows),
                training=read_training_inputs(data, task),
                progress=progress,
            )
            candidates = _candidates(job)
        return _certify(job, candidates)

    certificate = run.run_stage("candidates", Certificate, inputs, work)
    logger.info("stage=candidates chosen=%s of=%d", certificate.chosen, len(certificate.candidates))
    return certificate


def _clear(folder: Path) -> None:
    """Remove what a killed attempt left: half-made candidates and scratch folders."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def _candidates(job: Job) -> tuple[Candidate, ...]:
    exported = _export(job)
    folders, failures = _build(job, exported)
    task = Texts(
        job.texts,
        job.recipe.serve.max_tokens,
        job.recipe.compress.budget.confidence,
        job.scratch,
    )
    evaluations, unmeasured = evaluate(folders, task, job.progress)
    failures |= unmeasured
    for kind, reason in failures.items():
        job.progress(f"{kind} left out: {reason}")
        shutil.rmtree(job.folder / kind, ignore_errors=True)
    if not evaluations:
        said = "; ".join(f"{kind}: {reason}" for kind, reason in failures.items())
        raise ExportError(f"{job.merged_folder}: no candidate could be built ({said})")
    return tuple(_judge(job, exported, kind, found) for kind, found in evaluations.items())


def _export(job: Job) -> Exported:
    max_tokens = job.recipe.serve.max_tokens
    merged = load_merged(job.merged_folder, job.record.labels, job.recipe.task)
    if max_tokens > merged.most_tokens:
        raise ExportError(
            f"serve.max_tokens is {max_tokens}, this model reads at most {merged.most_tokens}; "
            f"set serve.max_tokens to {merged.most_tokens} or less"
        )
    model = job.scratch / MODEL
    job.progress("exporting the merged model to ONNX")
    exporter = export_merged(merged, model)
    encoded = [merged.encode(text, max_tokens) for text in job.texts]
    reference = merged.answer(encoded, lambda done: _report_rows(job, done))
    runtime = OnnxModel(model, job.merged_folder / TOKENIZER, max_tokens)
    parity = check_parity(merged, runtime, Expected(job.texts, encoded, reference), model)
    job.progress(
        f"exported by {exporter}: largest difference {parity.max_abs_difference:.1e} on "
        f"{parity.rows} texts"
    )
    source = Source(model, job.merged_folder / TOKENIZER, job.training, max_tokens)
    return Exported(source, exporter, parity, reference)


def _report_rows(job: Job, done: int) -> None:
    if done % PROGRESS_EVERY_ROWS == 0 or done == len(job.texts):
        job.progress(f"merged model: {done} of {len(job.texts)} texts answered")


def _build(job: Job, exported: Exported) -> tuple[dict[str, Path], dict[str, str]]:
    """Candidate folders by kind, and why a kind has none."""
    wanted = job.recipe.compress.candidates
    folders: dict[str, Path] = {}
    failures: dict[str, str] = {}
    for kind in CANDIDATES if wanted == "auto" else dict.fromkeys(wanted):
        folder = job.folder / kind
        folder.mkdir()
        try:
            CANDIDATES[kind](exported.source, folder)
        except Exception as problem:  # one graph that a quantizer stumbles on must not stop others
            logger.warning("candidate=%s cannot be built", kind, exc_info=True)
            failures[kind] = f"{type(problem).__name__}: {problem}"
        else:
            folders[kind] = folder
            job.progress(f"{kind}: {(folder / MODEL).stat().st_size / 1e6:.1f} MB")
    return folders, failures


def _judge(job: Job, exported: Exported, kind: str, found: Evaluation) -> Candidate:
    budget, labels = job.recipe.compress.budget, job.record.labels
    task, rows = TASKS[job.recipe.task], job.rows.rows
    right = task.right(found.outputs, rows, labels)
    expected = task.right(exported.reference, rows, labels)
    accuracy = paired_drop(expected, right, budget.confidence)
    candidate = Candidate(
        inputs_digest=job.inputs_digest,
        files=list_files(job.folder / kind),
        kind=kind,
        exporter=exported.exporter,
        merged_digest=digest_entries(job.record.files),
        parity=exported.parity,
        measurement=found.measurement,
        accuracy=accuracy,
        test_accuracy=float(right[job.rows.is_test].mean()),
        misses=misses(found.measurement, accuracy, budget),
    )
    candidate.write(job.folder / kind / RECORD_NAME)
    return candidate


def _certify(job: Job, candidates: tuple[Candidate, ...]) -> Certificate:
    budget = job.recipe.compress.budget
    chosen = choose(candidates)
    return Certificate(
        inputs_digest=job.inputs_digest,
        files=list_files(job.folder),
        budget=limits(budget),
        confidence=budget.confidence,
        chosen=None if chosen is None else chosen.kind,
        candidates=candidates,
        machine=describe_machine(),
    )

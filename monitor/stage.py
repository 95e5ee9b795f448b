"""The stage's entry: chosen candidate and held-out rows -> what drift is measured against.

Reads dataset/reference.jsonl and the model in candidates/<chosen>/ of the run; writes
reference/{reference.npz,record.json}.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeloop.bundle import REFERENCE
from edgeloop.errors import MonitorError
from edgeloop.models import Model, open_model
from edgeloop.observer import Observation, observed
from edgeloop.recipe import Monitor, Recipe
from edgeloop.records import Dataset, Reference
from edgeloop.records_compress import Certificate
from edgeloop.rows import Row, TextInput, read_rows
from edgeloop.rundir import RECORD_NAME, RunDir, digest_entries, list_files
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS, Task
from monitor.accuracy.fit import AccuracyFit, fit_accuracy
from monitor.family import Explained, describe_clusters, fit_family, primary_target, promise_figures
from monitor.fit import fit_reference
from monitor.reference import FORMAT, ReferenceData, reference_figures, save_reference
from monitor.words import count_ngrams, count_words

SPLIT = "reference"
# Bump where a change of the method must make runs fit their reference again.
METHOD_VERSION = 3
SEED = 0
PROGRESS_SECONDS = 5.0

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


def run(
    recipe: Recipe, dataset: Dataset, certificate: Certificate, run: RunDir, progress: Progress
) -> Reference:
    """Score the reference rows with the artefact that ships, fit the detector, verify its promise.

    A reference that cannot promise a run length is a result (`armed` False, with its reason).
    Raises MonitorError where no candidate was chosen or there are no rows, DatasetError where they
    do not read, EngineError where the model does not load.
    """
    if certificate.chosen is None:
        raise MonitorError(
            f"{run.folder('candidates')}: no candidate keeps to the budget, so there is no model "
            "to measure drift with; loosen compress.budget"
        )
    chosen = run.folder("candidates") / certificate.chosen
    target = recipe.monitor.target_run_length
    inputs = {
        "dataset": dataset.digest,
        "task": recipe.task,
        "model": digest_entries(list_files(chosen)),
        "max_tokens": recipe.serve.max_tokens,
        "target_run_length": target,
        "accuracy_floor": recipe.monitor.accuracy_floor,
        "advisory": recipe.monitor.advisory,
        "format": FORMAT,
        "method_version": METHOD_VERSION,
    }

    def work(folder: Path, inputs_digest: str) -> Reference:
        model = open_model(chosen, recipe.serve.max_tokens)
        rows = read_rows(run.folder("dataset"), SPLIT)
        scorer = Scorer(model, recipe.task, dataset.labels, progress)
        data = _fit(scorer, rows, recipe.monitor, _salt(dataset))
        save_reference(data, folder / REFERENCE)
        return Reference(
            inputs_digest=inputs_digest,
            files=list_files(folder, (RECORD_NAME,)),
            **{**reference_figures(data.fitted), **promise_figures(data.fitted, data.family)},
        )

    record = run.run_stage("reference", Reference, inputs, work)
    progress(f"reference: {record.reason}")
    logger.info(
        "stage=reference rows=%d armed=%s threshold=%.3f verified_run_length=%.0f",
        record.rows,
        record.armed,
        record.threshold,
        record.verified_run_length,
    )
    return record


@dataclass(frozen=True)
class Scorer:
    """The artefact that ships, and what its numbers mean."""

    model: Model
    task_name: str
    labels: tuple[str, ...]
    progress: Progress

    @property
    def task(self) -> Task:
        """The meaning of its numbers."""
        return TASKS[self.task_name]


def _fit(scorer: Scorer, rows: Sequence[Row], monitor: Monitor, salt: bytes) -> ReferenceData:
    # A text-embedding row is its anchor here, the kind of text that is asked about when served.
    texts = scorer.task.inputs(rows)[: len(rows)]
    seen, outputs = _score(scorer, texts)
    embeddings = np.stack([row.embedding for row in seen])
    probabilities = np.stack([row.probabilities for row in seen])
    target = monitor.target_run_length
    scorer.progress(f"reference: simulating a false-alarm interval of {target} rows")
    primary = primary_target(target)
    fitted = fit_reference(embeddings, probabilities, primary, SEED, monitor.advisory)
    names = scorer.task.class_names(scorer.labels)
    classes = np.bincount(probabilities.argmax(axis=1), minlength=len(names))
    explained = Explained(
        salt=salt,
        ngrams=count_ngrams((row.text for row in seen), salt),
        clusters=describe_clusters(embeddings, fitted.centroids, [row.id for row in rows]),
    )
    return ReferenceData(
        fitted,
        names,
        tuple(classes.tolist()),
        count_words(row.text for row in seen),
        fit_family(seen, scorer.task_name, fitted, target, explained, SEED),
        _accuracy(scorer, outputs, rows, monitor.accuracy_floor),
    )


def _accuracy(
    scorer: Scorer, outputs: Sequence[RowOutput], rows: Sequence[Row], floor: float
) -> AccuracyFit | None:
    """What accuracy is estimated from; None of a model of vectors, which gives no answers."""
    task, labels = scorer.task, scorer.labels
    if task.width(labels) == 0:
        return None
    probabilities = np.stack([task.probabilities(output, labels) for output in outputs])
    return fit_accuracy(probabilities, task.right(outputs, rows, labels), floor)


def _score(scorer: Scorer, texts: Sequence[TextInput]) -> tuple[list[Observation], list[RowOutput]]:
    """The texts as the live monitor would see them, one at a time as when served, and what the
    model said. Raises MonitorError where there are none."""
    seen, outputs = list[Observation](), list[RowOutput]()
    said = time.monotonic()
    for done, text in enumerate(texts):
        if time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            scorer.progress(f"reference: {done} of {len(texts)} rows scored")
        answered = scorer.model.answer(text)
        outputs.append(answered.output)
        seen.append(observed(text, answered, scorer.task, scorer.labels))
    if not texts:
        raise MonitorError("the reference has no rows; name some under data.files.reference")
    return seen, outputs


def _salt(dataset: Dataset) -> bytes:
    """Of the hashes of n-grams; the same rows have the same."""
    return hashlib.blake2b(dataset.digest.encode(), digest_size=16).digest()

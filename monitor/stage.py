"""The stage's entry: chosen candidate and held-out rows -> what drift is measured against.

Reads dataset/reference.jsonl and candidates/<chosen>/{model.onnx,tokenizer.json} of the run; writes
reference/{reference.npz,record.json}.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.bundle import MODEL, REFERENCE, TOKENIZER
from edgeloop.errors import MonitorError
from edgeloop.recipe import Recipe
from edgeloop.records import Certificate, Dataset, Reference
from edgeloop.rundir import RECORD_NAME, RunDir, digest_entries, list_files
from edgeloop.runtime import OnnxModel, softmax
from monitor.fit import fit_reference
from monitor.geometry import Vectors
from monitor.reference import FORMAT, ReferenceData, reference_figures, save_reference
from monitor.words import count_words

ROWS = "reference.jsonl"
# Bump where a change of the method must make runs fit their reference again.
METHOD_VERSION = 1
SEED = 0
PROGRESS_SECONDS = 5.0

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


def run(
    recipe: Recipe, dataset: Dataset, certificate: Certificate, run: RunDir, progress: Progress
) -> Reference:
    """Score the reference rows with the artefact that ships, fit the detector, verify its promise.

    A reference that cannot promise a run length is a result (`armed` False, with its reason).
    Raises MonitorError where no candidate was chosen or there are no rows, EngineError where the
    model does not load.
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
        "model": digest_entries(list_files(chosen)),
        "max_tokens": recipe.serve.max_tokens,
        "target_run_length": target,
        "format": FORMAT,
        "method_version": METHOD_VERSION,
    }

    def work(folder: Path, inputs_digest: str) -> Reference:
        model = OnnxModel(chosen / MODEL, chosen / TOKENIZER, recipe.serve.max_tokens)
        texts = _read_texts(run.folder("dataset") / ROWS)
        data = _fit(model, texts, dataset.labels, target, progress)
        save_reference(data, folder / REFERENCE)
        return Reference(
            inputs_digest=inputs_digest,
            files=list_files(folder, (RECORD_NAME,)),
            **reference_figures(data.fitted),
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


def _read_texts(path: Path) -> list[str]:
    try:
        # Not str.splitlines: a text may hold a line separator such as U+2028.
        lines = path.read_bytes().split(b"\n")
        return [str(json.loads(line)["text"]) for line in lines if line]
    except (OSError, ValueError, KeyError) as problem:
        raise MonitorError(
            f"{path}: the reference rows cannot be read ({problem!r}); delete the dataset folder "
            "and run again"
        ) from None


def _fit(
    model: OnnxModel, texts: list[str], labels: tuple[str, ...], target: int, progress: Progress
) -> ReferenceData:
    embeddings, probabilities = _score(model, texts, progress)
    progress(f"reference: simulating a false-alarm interval of {target} rows")
    fitted = fit_reference(embeddings, probabilities, target, SEED)
    classes = np.bincount(probabilities.argmax(axis=1), minlength=len(labels))
    return ReferenceData(fitted, labels, tuple(classes.tolist()), count_words(texts))


def _score(
    model: OnnxModel, texts: list[str], progress: Progress
) -> tuple[Vectors, NDArray[np.float64]]:
    """embeddings (n, hidden) and probabilities (n, classes), one text at a time as when served."""
    embeddings, probabilities, said = [], [], time.monotonic()
    for done, text in enumerate(texts):
        if time.monotonic() - said >= PROGRESS_SECONDS:
            said = time.monotonic()
            progress(f"reference: {done} of {len(texts)} rows scored")
        output = model.score([text])
        embeddings.append(output.embedding[0])
        probabilities.append(softmax(output.logits)[0])
    if not texts:
        raise MonitorError("the reference has no rows; name some under data.files.reference")
    return np.stack(embeddings), np.stack(probabilities)

"""Candidate cascade: a small model answers where it is sure, a larger one the rest. Fits both
temperatures and chooses the threshold (compress/threshold.py), on rows that it is not certified on;
writes cascade.json beside both models' files.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.threshold import (
    Stages,
    Threshold,
    Trial,
    chance_of,
    choose_threshold,
    chosen_labels,
    fit_temperature,
    stack,
)
from edgeloop.cascade import CONFIDENCE, CascadeModel, CascadeSettings, Prediction
from edgeloop.errors import ExportError
from edgeloop.kinds import (
    CASCADE,
    FIRST_LINEAR,
    FIRST_ONNX,
    FIRST_TOKENIZER,
    LINEAR,
    MODEL,
    TOKENIZER,
    kind_of,
)
from edgeloop.models import open_model
from edgeloop.rows import Row
from edgeloop.runtime import Model, RowOutput
from edgeloop.statistics import rows_needed

Floats = NDArray[np.float64]

REPEATS = 3


@dataclass(frozen=True)
class Choosing:
    """The rows that a cascade is chosen on, and what the reference model answers to them. No row
    that a stage was trained on, and none that the cascade is certified on."""

    rows: Sequence[Row]
    reference: Sequence[RowOutput]
    task: str
    labels: Sequence[str]
    max_tokens: int
    trial: Trial


@dataclass(frozen=True)
class _Stage:
    """A stage's answers to the choosing rows, calibrated: logits (rows, classes); milliseconds of
    each, (rows,)."""

    temperature: float
    logits: Floats
    ms: Floats


def build_cascade(first: Path, second: Path, choosing: Choosing, folder: Path) -> CascadeSettings:
    """Write a cascade of the models in two candidates' folders; nothing where none may be offered.

    Raises ExportError where the task has no single answer, the second model is no encoder, there
    are no choosing rows, or no threshold has a fair chance to pass the trial.
    """
    _check(first, second, choosing)
    small, large = (open_model(path, choosing.max_tokens) for path in (first, second))
    one, two = _answer(small, choosing), _answer(large, choosing)
    stages = _stages(one, two, choosing)
    chosen = choose_threshold(stages, choosing.trial)
    if chosen is None:
        raise ExportError(_why_none(choosing, stages))
    settings = _settings(first, choosing, one, two, chosen)
    # The stages' own times are not all of it: each finds the caches as the other left them.
    cost_ms = float(_took_ms(CascadeModel(small, large, settings), choosing).mean())
    predicted = settings.predicted.model_copy(update={"cost_ms": cost_ms})
    settings = settings.model_copy(update={"predicted": predicted})
    _copy(first, second, folder)
    settings.write(folder / CASCADE)
    return settings


def _settings(
    first: Path, choosing: Choosing, one: _Stage, two: _Stage, chosen: Threshold
) -> CascadeSettings:
    predicted = Prediction(
        rows=len(choosing.rows),
        hit_ratio=chosen.hit_ratio,
        first_ms=float(one.ms.mean()),
        second_ms=float(two.ms.mean()),
        cost_ms=chosen.cost_ms,
        drop_ratio=chosen.drop_ratio,
    )
    return CascadeSettings.model_validate(
        {
            "task": choosing.task,
            "first": kind_of(first).engine,
            "first_temperature": one.temperature,
            "second_temperature": two.temperature,
            "threshold": chosen.value,
            "predicted": predicted,
        }
    )


def _check(first: Path, second: Path, choosing: Choosing) -> None:
    """Raises ExportError, see build_cascade; EngineError where a folder holds no model."""
    if choosing.task not in CONFIDENCE:
        raise ExportError(
            f"a cascade answers {' and '.join(CONFIDENCE)}, not {choosing.task}; leave it out of "
            "compress.candidates"
        )
    if not choosing.rows:
        raise ExportError("a cascade's threshold needs validation rows, there are none; add some")
    if kind_of(first).engine == "cascade" or kind_of(second).engine != "onnx":
        raise ExportError(
            f"{first} and {second}: a cascade is a linear model or an encoder, and an encoder; not "
            f"{kind_of(first).engine} and {kind_of(second).engine}"
        )


def _answer(model: Model, choosing: Choosing) -> _Stage:
    logits = _logits(model.score([row.input for row in choosing.rows]))
    temperature = fit_temperature(logits, _truth(choosing), choosing.task)
    return _Stage(temperature, logits / temperature, _took_ms(model, choosing))


def _logits(outputs: Sequence[RowOutput]) -> Floats:
    return np.stack([output.logits for output in outputs]).astype(np.float64)


def _truth(choosing: Choosing) -> Floats:
    """(rows, classes) of 0 and 1."""
    column = {label: i for i, label in enumerate(choosing.labels)}
    truth = np.zeros((len(choosing.rows), len(column)))
    for i, row in enumerate(choosing.rows):
        truth[i, [column[label] for label in row.labels if label in column]] = 1.0
    return truth


def _stages(one: _Stage, two: _Stage, choosing: Choosing) -> Stages:
    """How likely each model is right, by what the reference and the first stage say together."""
    task, reference = choosing.task, _logits(choosing.reference)
    likeliest = stack(reference, one.logits, _truth(choosing), task)
    asked, first, second = (
        chosen_labels(logits, task) for logits in (reference, one.logits, two.logits)
    )
    return Stages(
        sure=np.array([CONFIDENCE[task](row) for row in one.logits.astype(np.float32)]),
        right_reference=chance_of(asked, likeliest, task),
        right_first=chance_of(first, likeliest, task),
        right_second=chance_of(second, likeliest, task),
        first_differs=(first != asked).any(axis=1),
        second_differs=(second != asked).any(axis=1),
        first_ms=one.ms,
        second_ms=two.ms,
    )


def _took_ms(model: Model, choosing: Choosing) -> Floats:
    """Milliseconds of each row's answer, (rows,): the shortest of REPEATS passes over all rows. A
    model answers on the thread that asks, so its time is that thread's own, whatever else has the
    core."""
    took_ns = np.empty((REPEATS, len(choosing.rows)))
    for repeat in range(REPEATS):
        for i, row in enumerate(choosing.rows):
            started = time.thread_time_ns()
            model.answer(row.input)
            took_ns[repeat, i] = time.thread_time_ns() - started
    shortest: Floats = took_ns.min(axis=0) / 1e6
    return shortest


def _why_none(choosing: Choosing, stages: Stages) -> str:
    """In words with the numbers, and how many judging rows could show it for the second stage."""
    trial, changed = choosing.trial, float(stages.second_differs.mean())
    needed = rows_needed(changed, trial.margin, trial.confidence)
    return (
        f"by {len(choosing.rows)} validation rows no threshold of the cascade is likely to be "
        f"shown on {trial.rows} test and reference rows to lose less than {trial.margin:g} of "
        f"accuracy at {100 * trial.confidence:.4g}%; with more rows it may (the second stage "
        f"alone needs about {needed})"
    )


def _copy(first: Path, second: Path, folder: Path) -> None:
    for name in (MODEL, TOKENIZER):
        shutil.copyfile(second / name, folder / name)
    if kind_of(first).engine == "linear":
        shutil.copyfile(first / LINEAR, folder / FIRST_LINEAR)
        return
    shutil.copyfile(first / MODEL, folder / FIRST_ONNX)
    if (first / TOKENIZER).read_bytes() != (second / TOKENIZER).read_bytes():
        shutil.copyfile(first / TOKENIZER, folder / FIRST_TOKENIZER)

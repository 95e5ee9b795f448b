"""Candidate cascade: a small model answers where it is sure, a larger one the rest. Fits both
temperatures and chooses the threshold, on rows that it is not certified on; writes cascade.json
beside both models' files.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

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
from edgeloop.records import PairedDrop
from edgeloop.rows import Row
from edgeloop.runtime import Model, RowOutput
from edgeloop.statistics import drop_upper_bound, paired_drop, rows_needed
from edgeloop.tasks import TASKS

Floats = NDArray[np.float64]
Right = NDArray[np.bool_]

# Thresholds that are tried: so many steps of the share that the first stage answers.
STEPS = 50
# A bound on few rows moves with each of them: the choice keeps this share of the margin free.
SAFETY_SHARE = 0.1
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
REPEATS = 3


@dataclass(frozen=True)
class Threshold:
    """From which confidence on the first stage answers, and what that comes to on the choosing
    rows: its share of them, the mean milliseconds of an answer, the cascade against the
    reference."""

    value: float
    hit_ratio: float
    cost_ms: float
    drop: PairedDrop


def choose_threshold(
    confidence_first: Floats,
    right_first: Right,
    right_second: Right,
    right_reference: Right,
    margin: float,
    confidence: float,
    first_ms: Floats | float,
    second_ms: Floats | float,
) -> Threshold | None:
    """The cheapest threshold whose cascade loses less than `margin` of accuracy against the
    reference at `confidence`; None where no threshold does. All arrays are (rows,). Milliseconds
    may be each row's own: the texts that the first stage is unsure of are longer than others.

    Among many thresholds some pass by chance alone. So the walk starts at the most convincing one
    and goes down only as long as each one on the way passes as well; certifying on other rows then
    has the error rate that it states, whatever was chosen here.

    Raises ValueError where the arrays differ in length or are empty.
    """
    values = _grid(confidence_first)
    bounds = [
        _bound(
            np.where(confidence_first >= value, right_first, right_second),
            right_reference,
            confidence,
        )
        for value in values
    ]
    allowed = (1.0 - SAFETY_SHARE) * margin
    at = int(np.argmin(bounds))
    if bounds[at] > allowed:
        return None
    while at > 0 and bounds[at - 1] <= allowed:
        at -= 1
    is_first = confidence_first >= values[at]
    hit_ratio = float(is_first.mean())
    return Threshold(
        value=values[at],
        hit_ratio=hit_ratio,
        cost_ms=float(np.mean(first_ms + np.where(is_first, 0.0, second_ms))),
        drop=paired_drop(
            right_reference, np.where(is_first, right_first, right_second), confidence
        ),
    )


def _grid(confidence_first: Floats) -> list[float]:
    """Thresholds in rising order, at even steps of the share that the first stage answers."""
    steps = np.linspace(0.0, 1.0, STEPS, endpoint=False)
    values: list[float] = np.unique(np.quantile(confidence_first, steps, method="lower")).tolist()
    return values


def _bound(right: Right, reference: Right, confidence: float) -> float:
    """paired_drop's bound alone."""
    lost, gained = int((reference & ~right).sum()), int((right & ~reference).sum())
    return drop_upper_bound(lost, gained, len(right), confidence)


def fit_temperature(logits: Floats, truth: Floats, task: str) -> float:
    """What the logits (rows, classes) must be divided by for their probabilities to be likeliest,
    given `truth` (rows, classes) of 0 and 1; within LEAST_ and MOST_TEMPERATURE."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        if task == "text-classification":
            shifted = scaled - scaled.max(axis=1, keepdims=True)
            return float(
                (np.log(np.exp(shifted).sum(axis=1)) - (truth * shifted).sum(axis=1)).sum()
            )
        return float((np.logaddexp(0.0, scaled) - truth * scaled).sum())

    limits = (float(np.log(LEAST_TEMPERATURE)), float(np.log(MOST_TEMPERATURE)))
    found = optimize.minimize_scalar(loss, bounds=limits, method="bounded")
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Choosing:
    """The rows that a cascade is chosen on, and what the reference model answers to them. No row
    that a stage was trained on, and none that the cascade is certified on."""

    rows: Sequence[Row]
    reference: Sequence[RowOutput]
    task: str
    labels: Sequence[str]
    max_tokens: int
    margin: float
    confidence: float


@dataclass(frozen=True)
class _Stage:
    """A stage's answers to the choosing rows, calibrated: logits (rows, classes); milliseconds of
    each, (rows,)."""

    temperature: float
    logits: Floats
    right: Right
    ms: Floats


def build_cascade(first: Path, second: Path, choosing: Choosing, folder: Path) -> CascadeSettings:
    """Write a cascade of the models in two candidates' folders; nothing where none may be offered.

    Raises ExportError where the task has no single answer, the second model is no encoder, there
    are no choosing rows, or no threshold keeps to the margin.
    """
    _check(first, second, choosing)
    small, large = (open_model(path, choosing.max_tokens) for path in (first, second))
    one, two = _answer(small, choosing), _answer(large, choosing)
    expected = TASKS[choosing.task].right(choosing.reference, choosing.rows, choosing.labels)
    sure = np.array([CONFIDENCE[choosing.task](row) for row in one.logits.astype(np.float32)])
    chosen = choose_threshold(
        confidence_first=sure,
        right_first=one.right,
        right_second=two.right,
        right_reference=expected,
        margin=choosing.margin,
        confidence=choosing.confidence,
        first_ms=one.ms,
        second_ms=two.ms,
    )
    if chosen is None:
        raise ExportError(_why_none(choosing, expected, two.right))
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
        rows=chosen.drop.rows,
        hit_ratio=chosen.hit_ratio,
        first_ms=float(one.ms.mean()),
        second_ms=float(two.ms.mean()),
        cost_ms=chosen.cost_ms,
        accuracy=chosen.drop.candidate_accuracy,
        drop_ratio=chosen.drop.drop_ratio,
        drop_bound_ratio=chosen.drop.upper_bound_ratio,
        confidence=chosen.drop.confidence,
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
    outputs = model.score([row.input for row in choosing.rows])
    logits = np.stack([output.logits for output in outputs]).astype(np.float64)
    column = {label: i for i, label in enumerate(choosing.labels)}
    truth = np.zeros_like(logits)
    for i, row in enumerate(choosing.rows):
        truth[i, [column[label] for label in row.labels if label in column]] = 1.0
    temperature = fit_temperature(logits, truth, choosing.task)
    right = TASKS[choosing.task].right(outputs, choosing.rows, choosing.labels)
    return _Stage(temperature, logits / temperature, right, _took_ms(model, choosing))


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


def _why_none(choosing: Choosing, expected: Right, second: Right) -> str:
    """In words with the numbers, and how many rows could show it for the second stage alone."""
    changed = float((expected != second).mean())
    needed = rows_needed(changed, choosing.margin, choosing.confidence)
    return (
        f"no threshold of the cascade can be shown on {len(choosing.rows)} validation rows to lose "
        f"less than {choosing.margin:g} of accuracy at {100 * choosing.confidence:g}%; with more "
        f"rows it may (the second stage alone needs about {needed})"
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

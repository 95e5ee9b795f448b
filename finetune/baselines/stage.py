"""The stage merged/ -> baselines/: is fine-tuning worth it here?

Run by `edgeloop run --baselines`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, MergedModel
from edgeloop.records_evaluation import Baseline, Baselines
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import RunDir, digest_entries
from edgeloop.tasks import TASKS
from finetune.baselines.embed import through
from finetune.baselines.fitted import Fitted, Material, Score, from_answers
from finetune.baselines.kinds import BASELINES
from finetune.baselines.verdict import FINE_TUNED, decide
from finetune.evaluation.judged import HEADLINE, Judged
from finetune.evaluation.measure import CONFIDENCE, difference, interval

logger = logging.getLogger(__name__)

STAGE = "baselines"
VERSION = 1
TIMED_ROWS = 40
WARM_UP_ROWS = 3


@dataclass(frozen=True)
class Models:
    """Both are loaded once, before the clock runs. `frozen`: see fitted.Material; `tuned` answers
    as the merged model does."""

    frozen: Score
    tuned: Score
    base_bytes: int
    tuned_bytes: int


@dataclass(frozen=True)
class Trial:
    """One way to do the task, fitted and measured on the test rows."""

    fitted: Fitted
    judged: Judged
    train_seconds: float
    latency_p50_ms: float


def run(
    recipe: Recipe,
    dataset: Dataset,
    adapter: Adapter,
    merged: MergedModel,
    run_dir: RunDir,
    load: Callable[[], Models],
    progress: Callable[[str], None],
) -> Baselines:
    """Skipped where it was done for this model, these rows and this budget; `load` is called only
    where it is not.

    Raises DatasetError where a split has no rows.
    """
    budget = recipe.compress.budget
    merged_digest = digest_entries(merged.files)
    depends_on = {
        "task": recipe.task,
        "dataset": dataset.digest,
        "merged": merged_digest,
        "base": merged.base_digest,
        "max_tokens": recipe.serve.max_tokens,
        "max_drop": budget.max_accuracy_drop,
        "confidence": budget.confidence,
        "version": VERSION,
    }

    def work(folder: Path, inputs_digest: str) -> Baselines:
        rows = _read_splits(run_dir.folder("dataset"))
        trials = measure(recipe.task, merged.labels, rows, load(), adapter.seconds, progress)
        return _record(recipe, dataset, merged_digest, rows, trials, inputs_digest)

    result = run_dir.run_stage(STAGE, Baselines, depends_on, work)
    logger.info("stage=baselines best=%s ship=%s", result.best, result.ship)
    return result


def _read_splits(folder: Path) -> dict[str, list[Row]]:
    rows = {name: read_rows(folder, name) for name in ("train", "validation", "test")}
    for name, found in rows.items():
        if not found:
            raise DatasetError(f"there are no {name} rows to measure baselines on; see data.split")
    return rows


def measure(
    task: str,
    labels: tuple[str, ...],
    rows: Mapping[str, Sequence[Row]],
    models: Models,
    tuned_seconds: float,
    progress: Callable[[str], None],
) -> dict[str, Trial]:
    """Every baseline of the task and the fine-tuned model, the cheapest first."""
    train, validation = rows["train"], rows["validation"]
    material = Material(task, labels, train, validation, models.frozen, models.base_bytes)
    encode_seconds = 0.0
    if task != "text-embedding":
        progress(f"baselines: the frozen base reads {len(train) + len(validation)} rows")
        started = time.perf_counter()
        material = replace(
            material,
            train_states=models.frozen([row.input for row in train]),
            validation_states=models.frozen([row.input for row in validation]),
        )
        encode_seconds = time.perf_counter() - started
    trials = {}
    for name, kind in BASELINES[task].items():
        progress(f"baselines: {name}")
        started = time.perf_counter()
        fitted = kind.fit(material)
        seconds = time.perf_counter() - started + (encode_seconds if kind.uses_encoder else 0.0)
        trials[name] = _trial(fitted, rows["test"], seconds)
    progress(f"baselines: {FINE_TUNED}")
    trials[FINE_TUNED] = _trial(_tuned(task, labels, models), rows["test"], tuned_seconds)
    return trials


def _tuned(task: str, labels: tuple[str, ...], models: Models) -> Fitted:
    if task == "text-embedding":
        return through(models.tuned, models.tuned_bytes)
    return from_answers(
        task,
        lambda rows: [
            TASKS[task].answer(output, labels)
            for output in models.tuned([row.input for row in rows])
        ],
        models.tuned_bytes,
    )


def _trial(fitted: Fitted, rows: Sequence[Row], train_seconds: float) -> Trial:
    return Trial(fitted, fitted.judge(rows), train_seconds, _latency(fitted, rows))


def _latency(fitted: Fitted, rows: Sequence[Row]) -> float:
    """Median milliseconds per text, one text at a time."""
    spread = np.linspace(0, len(rows) - 1, min(TIMED_ROWS, len(rows))).round().astype(int)
    for place in spread[:WARM_UP_ROWS]:
        fitted.answer_one(rows[place])
    seconds = []
    for place in spread:
        started = time.perf_counter()
        fitted.answer_one(rows[place])
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds) * 1e3)


def _record(
    recipe: Recipe,
    dataset: Dataset,
    merged_digest: str,
    rows: Mapping[str, Sequence[Row]],
    trials: Mapping[str, Trial],
    inputs_digest: str,
) -> Baselines:
    budget = recipe.compress.budget
    judged = {name: trial.judged for name, trial in trials.items()}
    verdict = decide(recipe.task, judged, budget.max_accuracy_drop, budget.confidence)
    headline = HEADLINE[recipe.task][0]
    tuned = judged[FINE_TUNED].figures[headline]
    results = tuple(
        Baseline(
            name=name,
            figure=interval(trial.judged.figures[headline]),
            loss=None
            if name == FINE_TUNED
            else interval(difference(tuned, trial.judged.figures[headline])),
            drop_upper_bound_ratio=verdict.bounds[name],
            chosen_settings=trial.fitted.settings,
            train_seconds=trial.train_seconds,
            latency_p50_ms=trial.latency_p50_ms,
            size_bytes=trial.fitted.size_bytes,
        )
        for name, trial in trials.items()
    )
    return Baselines(
        inputs_digest=inputs_digest,
        files=(),
        task=recipe.task,
        dataset_digest=dataset.digest,
        merged_digest=merged_digest,
        train_rows=len(rows["train"]),
        test_rows=len(rows["test"]),
        headline=headline,
        interval_confidence=CONFIDENCE,
        max_drop_ratio=budget.max_accuracy_drop,
        confidence=budget.confidence,
        results=results,
        best=verdict.best,
        ship=verdict.ship,
        reason=verdict.reason,
    )

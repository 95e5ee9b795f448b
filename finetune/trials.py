"""Trains a search's trials one after another until its budget is spent. One or several processes
do this on one work folder:

    study.db             Optuna's storage
    recipe.json          the recipe
    dataset/             the training rows without those that judge, which stand in the place of the
                         validation rows
    .trial-<number>/     a trial under way

Run as `python -m finetune.trials FOLDER`; ends when its standard input does, so that no worker
outlives the process that started it.
"""

import fcntl
import logging
import os
import shutil
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.trial import TrialState

from edgeloop.errors import EdgeloopError, TrainingError
from edgeloop.recipe import Recipe, Search
from edgeloop.recipe_search import Value
from edgeloop.records import Dataset, Epoch
from edgeloop.rundir import RECORD_NAME, RunDir
from finetune import study as studies
from finetune.adapt import DATASET, Inputs, train_model
from finetune.base import Base, resolve_base
from finetune.encoder import quiet_transformers
from finetune.epochs import best_epoch
from finetune.train import Say, deterministic

logger = logging.getLogger(__name__)

RECIPE = "recipe.json"
WORKERS = ".workers"
THREADS = "EDGELOOP_TRIAL_THREADS"
EXIT_ERROR, EXIT_ORPHAN, EXIT_INTERRUPTED = 1, 3, 130


@dataclass(frozen=True)
class Work:
    """What a worker knows."""

    recipe: Recipe
    search: Search
    dataset: Dataset
    base: Base
    folder: Path
    study: optuna.Study
    say: Say


def work(folder: Path, say: Say) -> None:
    """Train trials until the budget is spent.

    Raises TrainingError where the storage fails; a trial that cannot be trained is noted as such.
    """
    recipe = Recipe.model_validate_json((folder / RECIPE).read_bytes())
    dataset = Dataset.read(folder / DATASET / RECORD_NAME)
    search = recipe.finetune.search
    assert search is not None
    with studies.readable(folder):
        study = studies.open_study(folder)
        job = Work(recipe, search, dataset, resolve_base(recipe.base), folder, study, say)
        try:
            while True:
                claimed = studies.claim(study, search, recipe.finetune.training.seed, folder)
                if claimed is None:
                    break
                _trial(job, *claimed)
        finally:
            studies.close_study(study)


def _trial(job: Work, trial: optuna.Trial, values: dict[str, Value]) -> None:
    """Train with the values, and note what came of it."""
    shown = ", ".join(f"{key} {value}" for key, value in values.items())
    job.say(f"trial {trial.number}: {shown}")
    started = time.monotonic()
    figure, state, outcome = None, TrialState.PRUNED, "pruned"
    try:
        figure = _train(job, trial, values)
        state, outcome = TrialState.COMPLETE, f"{figure:.4f}"
    except optuna.TrialPruned:
        pass
    except TrainingError as problem:
        # Pruned without a figure: what the sampler takes for the worst.
        trial.set_user_attr(studies.PROBLEM, str(problem))
        outcome = f"cannot be trained ({problem})"
    seconds = time.monotonic() - started
    trial.set_user_attr(studies.SECONDS, seconds)
    job.study.tell(trial, figure, state)
    job.say(f"trial {trial.number}: {outcome} ({seconds:.1f} s)")


def _train(job: Work, trial: optuna.Trial, values: dict[str, Value]) -> float:
    """The figure of the best epoch. Raises optuna.TrialPruned, and TrainingError."""
    settings = job.recipe.finetune.found(values)
    recipe = job.recipe.model_copy(update={"finetune": settings})
    inputs = Inputs(recipe, job.dataset, RunDir(job.folder), job.base)

    def on_epoch(epoch: Epoch) -> None:
        trial.report(epoch.validation_metric, epoch.epoch)
        is_last = epoch.epoch == settings.training.num_train_epochs
        if trial.should_prune() and not is_last:
            raise optuna.TrialPruned

    folder = job.folder / f".trial-{trial.number}"
    folder.mkdir()
    try:
        with quiet_transformers(), deterministic(settings.training.seed):
            best = best_epoch(train_model(inputs, folder, logger.debug, on_epoch).epochs)
    finally:
        shutil.rmtree(folder)
    trial.set_user_attr(studies.LOSS, best.validation_loss)
    return best.validation_metric


def main() -> int:
    """A worker process; returns its exit status."""
    folder = Path(sys.argv[1])
    threading.Thread(target=_end_with_input, daemon=True).start()
    torch.set_num_threads(int(os.environ[THREADS]))
    with (folder / WORKERS).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            work(folder, lambda line: print(line, flush=True))
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except EdgeloopError as problem:
            print(problem, file=sys.stderr)
            return EXIT_ERROR
    return 0


def _end_with_input() -> None:
    while os.read(0, 1):
        pass
    os._exit(EXIT_ORPHAN)


if __name__ == "__main__":
    sys.exit(main())

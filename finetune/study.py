"""A search's trials, in Optuna's storage (SQLite, one file): which parameters come next, which
trials are done, and which one was the best. Several processes may work on one storage.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune, Range, Search
from edgeloop.recipe_search import Value, is_whole
from edgeloop.records import Trial

STORAGE = "study.db"
LOCK = ".claim"
NAME = "search"
BUSY_SECONDS = 60.0  # how long one process waits for another's transaction
# Optuna's default: nothing is stopped before so many trials ended. Steps are epochs: the first one
# says little, as the learning rate is still warming up.
TRIALS_BEFORE_PRUNING = 5
FIRST_PRUNED_EPOCH = 2
# What is noted of a trial beside its figure.
AGAIN, STARTED, SECONDS, LOSS, PROBLEM = "again", "started", "seconds", "loss", "problem"
WORKING = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Raises TrainingError where the storage cannot be read or written."""
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as problem:
        raise TrainingError(
            f"{folder / STORAGE}: the search's storage fails ({str(problem).splitlines()[0]}); "
            "free disk space, or delete the folder to search anew, and run again"
        ) from problem


def open_study(folder: Path) -> optuna.Study:
    """The folder's study, made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / STORAGE}",
        engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}},
    )
    pruner = optuna.pruners.MedianPruner(TRIALS_BEFORE_PRUNING, FIRST_PRUNED_EPOCH)
    return optuna.create_study(
        storage=storage, pruner=pruner, study_name=NAME, direction="maximize", load_if_exists=True
    )


def close_study(study: optuna.Study) -> None:
    """Give the file back."""
    study._storage._backend.engine.dispose()


def distribution(key: str, space: Sequence[Value] | Range) -> BaseDistribution:
    """Optuna's name for a part of the space."""
    if not isinstance(space, Range):
        return CategoricalDistribution(tuple(space))
    if is_whole(Finetune, key):
        return IntDistribution(int(space.low), int(space.high), log=space.log)
    return FloatDistribution(space.low, space.high, log=space.log)


def begin(study: optuna.Study, settings: Finetune, search: Search) -> None:
    """Before any worker runs: a new study begins with the recipe's own settings, where the space
    holds them; trials that were running when their process was killed are to be done again."""
    trials = study.get_trials(deepcopy=False)
    if not trials:
        own = own_values(settings, search)
        if own is not None:
            study.enqueue_trial(own)
    repeated = {trial.user_attrs.get(AGAIN) for trial in trials}
    for trial in trials:
        if trial.state is TrialState.RUNNING:
            # In this order: a kill in between leaves it to be found again, and not to be lost.
            if trial.number not in repeated:
                fixed = trial.params or trial.system_attrs.get("fixed_params", {})
                study.enqueue_trial(fixed, user_attrs={AGAIN: trial.number})
            study.tell(trial.number, state=TrialState.FAIL)


def own_values(settings: Finetune, search: Search) -> dict[str, Value] | None:
    """The recipe's own value for every key of the space; None where one is outside of it."""
    document = settings.model_dump(mode="json")
    document["training"]["learning_rate"] = settings.learning_rate
    values: dict[str, Value] = {}
    for key, space in search.space.items():
        value: Any = document
        for part in key.split("."):
            value = value[part]
        if isinstance(space, Range):
            inside = space.low <= value <= space.high
        else:
            inside = any(value == choice and type(value) is type(choice) for choice in space)
        if not inside:
            return None
        values[key] = value
    return values


def claim(
    study: optuna.Study, search: Search, seed: int, folder: Path
) -> tuple[optuna.Trial, dict[str, Value]] | None:
    """The next trial with its parameters; None when the budget is spent. One process at a time."""
    with _alone(folder):
        trials = study.get_trials(deepcopy=False)
        begun = [trial for trial in trials if trial.state in WORKING]
        if search.n_trials is not None and len(begun) >= search.n_trials:
            return None
        limit = search.timeout_minutes
        if limit is not None and spent_seconds(begun) >= limit * 60.0:
            return None
        trial = study.ask()
        # One generator per trial: a search that was killed goes on as if it had not been.
        earlier = [t for t in trials if t.number < trial.number and AGAIN not in t.user_attrs]
        sequence = np.random.SeedSequence([seed, len(earlier)])
        study.sampler = optuna.samplers.TPESampler(seed=int(sequence.generate_state(1)[0]))
        trial.set_user_attr(STARTED, time.time())
        values = {key: _suggest(trial, key, space) for key, space in search.space.items()}
    return trial, values


def _suggest(trial: optuna.Trial, key: str, space: Sequence[Value] | Range) -> Value:
    kind = distribution(key, space)
    if isinstance(kind, CategoricalDistribution):
        chosen: Value = trial.suggest_categorical(key, kind.choices)
        return chosen
    if isinstance(kind, IntDistribution):
        return int(trial.suggest_int(key, kind.low, kind.high, log=kind.log))
    return float(trial.suggest_float(key, kind.low, kind.high, log=kind.log))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Optuna counts trials and begins one in two steps: without this, two processes would both
    begin the last."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def spent_seconds(trials: Sequence[FrozenTrial]) -> float:
    """Wall-clock seconds in which at least one trial ran; the time between a kill and the next
    start is not among them. A trial that is running counts until now."""
    now = time.time()
    spans = sorted(
        (begun, begun + t.user_attrs[SECONDS] if SECONDS in t.user_attrs else now)
        for t in trials
        if (begun := t.user_attrs.get(STARTED)) is not None
    )
    total, reached = 0.0, float("-inf")
    for begun, ended in spans:
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def records(study: optuna.Study) -> tuple[Trial, ...]:
    """Every trial that was begun, in order."""
    return tuple(
        _record(trial)
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    )


def _record(trial: FrozenTrial) -> Trial:
    figures = trial.intermediate_values.values()
    problem = trial.user_attrs.get(PROBLEM, "")
    states = {TrialState.COMPLETE: "complete", TrialState.FAIL: "killed"}
    return Trial.model_validate(
        {
            "number": trial.number,
            "parameters": dict(trial.params),
            "state": "failed" if problem else states.get(trial.state, "pruned"),
            "figure": max(figures) if figures else None,
            "epochs": len(figures),
            "seconds": trial.user_attrs.get(SECONDS, 0.0),
            "problem": problem,
        }
    )


def best_trial(study: optuna.Study) -> FrozenTrial:
    """The complete trial of the highest figure; of equals the one with the smaller loss, then the
    earlier one.

    Raises TrainingError where none was complete.
    """
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not complete:
        said = [t.user_attrs[PROBLEM] for t in trials if PROBLEM in t.user_attrs]
        raise TrainingError(
            f"finetune.search: none of {len(trials)} trials could be trained to the end"
            + (f"; the first one: {said[0]}" if said else "")
        )
    return max(complete, key=lambda t: (t.value, -t.user_attrs[LOSS], -t.number))

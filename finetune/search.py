"""The stage `search`: dataset -> search/, the best hyperparameters by Optuna (TPE, median pruning).

Trials are judged on rows held out of the training rows: the validation rows stay for the training
that follows, the test rows for the figure that is reported. A search that was killed goes on:
finished trials are kept, those that were running are marked and done again with the same
parameters. search/study.db is Optuna's own storage, for optuna-dashboard and the like.
"""

import fcntl
import logging
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path

from edgeloop.errors import TrainingError
from edgeloop.processes import last_line, module_command, module_environment
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset, SearchRecord
from edgeloop.rows import Row, read_rows, write_rows
from edgeloop.rundir import RECORD_NAME, RunDir, list_files, write_atomic
from finetune import study as studies
from finetune import trials
from finetune.adapt import DATASET, Inputs, check_files
from finetune.base import resolve_base
from finetune.holdout import hold_out
from finetune.objectives import OBJECTIVES
from finetune.train import Say

SEARCH = "search"

logger = logging.getLogger(__name__)


def run(recipe: Recipe, dataset: Dataset, run_dir: RunDir, progress: Say) -> SearchRecord:
    """Search recipe.finetune.search.space until its budget is spent.

    Raises DatasetError where no rows can be held out, TrainingError where no trial could be
    trained or a worker process ended; the same call goes on from there.
    """
    check_files(run_dir.folder(DATASET), dataset.files)
    inputs = Inputs(recipe, dataset, run_dir, resolve_base(recipe.base))

    def work(folder: Path, inputs_digest: str) -> SearchRecord:
        return _search(inputs, folder, inputs_digest, progress)

    record = run_dir.run_stage(SEARCH, SearchRecord, inputs.depends_on(), work)
    logger.info("stage=search trials=%d best=%d", len(record.trials), record.best)
    return record


def with_found(recipe: Recipe, record: SearchRecord) -> Recipe:
    """The recipe with what was found, and nothing left to search."""
    settings = recipe.finetune.found(record.parameters)
    return recipe.model_copy(update={"finetune": settings})


def _search(inputs: Inputs, folder: Path, inputs_digest: str, progress: Say) -> SearchRecord:
    recipe = inputs.recipe
    search = recipe.finetune.search
    assert search is not None
    rows = read_rows(inputs.run.folder(DATASET), "train")
    trained, judged = hold_out(rows, recipe, search.holdout)
    _wait_for_orphans(folder)
    _lay_out(inputs, folder, trained, judged)
    with studies.readable(folder):
        study = studies.open_study(folder)
        try:
            studies.begin(study, recipe.finetune, search)
            _train_trials(folder, search.n_jobs, progress)
            best = studies.best_trial(study)
            done = studies.records(study)
        finally:
            studies.close_study(study)
    shutil.rmtree(folder / DATASET)
    (folder / trials.RECIPE).unlink()
    return SearchRecord(
        inputs_digest=inputs_digest,
        files=list_files(folder),
        metric=OBJECTIVES[recipe.task].name,
        rows=len(trained),
        holdout_rows=len(judged),
        trials=done,
        best=best.number,
        parameters=dict(best.params),
    )


def _wait_for_orphans(folder: Path) -> None:
    """Workers of a process that was killed end by themselves, but not before its successor may
    begin."""
    with (folder / trials.WORKERS).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _lay_out(inputs: Inputs, folder: Path, trained: list[Row], judged: list[Row]) -> None:
    """What the workers read (finetune.trials), without the leftovers of killed trials."""
    for leftover in folder.glob(".trial-*"):
        shutil.rmtree(leftover)
    place = folder / DATASET
    place.mkdir(exist_ok=True)
    write_rows(place / "train.jsonl", trained)
    write_rows(place / "validation.jsonl", judged)
    write_atomic(place / RECORD_NAME, inputs.dataset.to_bytes())
    write_atomic(folder / trials.RECIPE, inputs.recipe.to_bytes())


def _train_trials(folder: Path, jobs: int, progress: Say) -> None:
    if jobs == 1:
        trials.work(folder, progress)
        return
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    workers = [_Worker(folder, number, threads, said) for number in range(jobs)]
    try:
        for _ in workers:
            while (line := said.get()) is not None:
                progress(line)
            # One has ended: well, or the others need not go on.
            _check(workers)
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process that trains trials; its lines go to `said`, None when it has ended."""

    def __init__(
        self, folder: Path, number: int, threads: int, said: queue.SimpleQueue[str | None]
    ) -> None:
        self._complaints = folder / f".worker-{number}"
        count = {trials.THREADS: str(threads), "OMP_NUM_THREADS": str(threads)}
        with self._complaints.open("wb") as stderr:
            self.process = subprocess.Popen(
                module_command("finetune.trials", str(folder)),
                env=module_environment(**count),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, args=(said,), daemon=True)
        self._reader.start()

    def _read(self, said: queue.SimpleQueue[str | None]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.put(line.rstrip("\n"))
        self.process.wait()
        said.put(None)

    def complaint(self) -> str | None:
        """Why it ended; None where it works or ended well."""
        if not self.process.poll():
            return None
        last = last_line(self._complaints.read_text(encoding="utf-8", errors="replace"))
        return f"ended with {self.process.returncode} ({last})"

    def end(self) -> None:
        """It ends with its input."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self._reader.join()
        self.process.stdout.close()


def _check(workers: list[_Worker]) -> None:
    complaints = [said for worker in workers if (said := worker.complaint()) is not None]
    if complaints:
        raise TrainingError(
            f"finetune.search: a worker process {complaints[0]}; run again to go on, with a "
            "smaller finetune.search.n_jobs where the memory was too small"
        )

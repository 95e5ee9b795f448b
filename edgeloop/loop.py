"""The whole loop as one ordered list of stages, resumable.

    rows -> dataset (-> search) -> adapter -> merged -> retention -> evaluation (-> baselines)
         -> candidates -> reference -> bundle

Every stage is a folder of the run with its record; a stage whose record matches its inputs is
skipped, so that a run that was killed goes on where it stopped. A budget that nothing kept to is
measured anew. A model that has forgotten too much of what the deployed one knew is not compressed.
One process at a time works in a run folder. Command: `edgeloop run`.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import compress.stage
import finetune.evaluate
import finetune.retention.stage
import finetune.stage
import finetune.worth
import monitor.stage
from edgeloop.bundle import MANIFEST, Bundle
from edgeloop.errors import DatasetError, EdgeloopError, RecipeError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, MergedModel, Reference, SearchRecord
from edgeloop.records_compress import Certificate
from edgeloop.records_evaluation import Baselines, Evaluation
from edgeloop.records_retention import RetentionRecord
from edgeloop.rundir import (
    RECORD_NAME,
    RunDir,
    digest_file,
    discard_run,
    work_in_run,
    write_atomic,
)
from edgeloop.ship import ship
from finetune.dataset import source_files
from finetune.retention.previous import check_retention, used_digest
from finetune.retention.suite import retention_files
from finetune.scoring import score_merged

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
RECIPE_NAME = "recipe.json"
STAGES = (
    "dataset",
    "search",
    "adapter",
    "merged",
    "retention",
    "evaluation",
    "baselines",
    "candidates",
    "reference",
    "bundle",
)


@dataclass
class Run:
    """One run under way: what each stage has handed on so far."""

    recipe: Recipe
    folder: RunDir
    progress: Progress
    extra: Sequence[LabelledRow]
    previous: Bundle | None = None
    with_baselines: bool = False
    dataset: Dataset | None = None
    search: SearchRecord | None = None
    adapter: Adapter | None = None
    merged: MergedModel | None = None
    retention: RetentionRecord | None = None
    evaluation: Evaluation | None = None
    baselines: Baselines | None = None
    certificate: Certificate | None = None
    reference: Reference | None = None
    bundle: Bundle | None = None

    @property
    def id(self) -> str:
        """The run folder's name."""
        return self.folder.root.name

    @property
    def infeasible(self) -> bool:
        """True where candidates were measured and none keeps to the budget."""
        return self.certificate is not None and self.certificate.chosen is None

    @property
    def forgotten(self) -> bool:
        """True where the new model has lost too much of what the previous one knew."""
        return self.retention is not None and not self.retention.passed

    @property
    def stopped(self) -> bool:
        """True where a gate inside the run said no: there is nothing to ship."""
        return self.infeasible or self.forgotten

    @property
    def result(self) -> str:
        """How it ended, as the ledger has it."""
        return "forgotten" if self.forgotten else "infeasible" if self.infeasible else "built"


def _dataset(run: Run) -> None:
    run.dataset = finetune.stage.prepare(run.recipe, run.folder, run.extra, run.previous)


def _search(run: Run) -> None:
    """What was found takes the recipe's place: the stages that follow know of no search."""
    from finetune.search import run as search  # Optuna takes a second to import
    from finetune.search import with_found

    assert run.dataset is not None
    run.search = search(run.recipe, run.dataset, run.folder, run.progress)
    run.recipe = with_found(run.recipe, run.search)


def _adapter(run: Run) -> None:
    assert run.dataset is not None
    run.adapter = finetune.stage.train(
        run.recipe, run.dataset, run.folder, run.progress, run.previous
    )


def _merged(run: Run) -> None:
    assert run.dataset is not None
    assert run.adapter is not None
    run.merged = finetune.stage.merge(run.recipe, run.dataset, run.adapter, run.folder)


def _retention(run: Run) -> None:
    assert run.dataset is not None
    assert run.merged is not None
    run.retention = finetune.retention.stage.measure(
        run.recipe, run.dataset, run.merged, run.previous, run.folder
    )
    if run.retention is not None:
        for line in run.retention.warnings():
            run.progress(f"warning: retention: {line}")


def _evaluation(run: Run) -> None:
    assert run.dataset is not None
    assert run.merged is not None
    run.evaluation = finetune.evaluate.run(
        run.recipe, run.dataset, run.merged, run.folder, run.progress, score_merged
    )


def _baselines(run: Run) -> None:
    assert run.dataset is not None
    assert run.adapter is not None
    assert run.merged is not None
    run.baselines = finetune.worth.compare(
        run.recipe, run.dataset, run.adapter, run.merged, run.folder, run.progress
    )


def _candidates(run: Run) -> None:
    assert run.dataset is not None
    assert run.merged is not None
    run.certificate = compress.stage.run(
        run.recipe, run.dataset, run.merged, run.folder, run.progress
    )


def _reference(run: Run) -> None:
    assert run.dataset is not None
    assert run.certificate is not None
    run.reference = monitor.stage.run(
        run.recipe, run.dataset, run.certificate, run.folder, run.progress
    )


def _bundle(run: Run) -> None:
    assert run.dataset is not None
    assert run.adapter is not None
    assert run.certificate is not None
    assert run.reference is not None
    run.bundle = ship(
        run.recipe, run.dataset, run.adapter, run.certificate, run.reference, run.folder
    )


STEPS: dict[str, Callable[[Run], None]] = dict(
    zip(
        STAGES,
        (
            _dataset,
            _search,
            _adapter,
            _merged,
            _retention,
            _evaluation,
            _baselines,
            _candidates,
            _reference,
            _bundle,
        ),
        strict=True,
    )
)


def run_loop(
    recipe: Recipe,
    home: Path,
    progress: Progress,
    until: str = "bundle",
    extra: Sequence[LabelledRow] = (),
    on_start: Callable[["Run"], None] | None = None,
    previous: Bundle | None = None,
    with_baselines: bool = False,
) -> Run:
    """Run the stages up to and with `until`; `extra` are labelled rows from production, `previous`
    is the deployed model, which must not be forgotten. `on_start` is called once the rows are read
    and good, before the model is trained.

    Stops where the new model has forgotten too much (`Run.forgotten`), and after the candidates
    where none keeps to the budget (`Run.infeasible`).
    Raises EdgeloopError where another process works in the run folder, and its subclasses of the
    stage that failed; what was complete stays complete.
    """
    stages = _stages(recipe, until)
    _check_method(recipe, "merged" in stages, progress)
    check_retention(recipe, previous)
    with work_in_run(home, recipe.name, run_inputs(recipe, extra, previous)) as folder:
        write_atomic(folder.root / RECIPE_NAME, recipe.to_bytes())
        if "candidates" in stages:
            _forget_infeasible(folder)
        run = Run(recipe, folder, progress, extra, previous, with_baselines)
        try:
            _step(run, stages[0])
        except (DatasetError, RecipeError):
            if not folder.folder("dataset").exists():
                discard_run(folder)  # bad input leaves nothing behind
            raise
        if on_start is not None:
            on_start(run)
        _steps(run, stages[1:])
    return run


def _check_method(recipe: Recipe, is_merged: bool, progress: Progress) -> None:
    """Say what the recipe's method does not read, and that its adapter cannot ship.

    Raises RecipeError for the latter where the run is to merge it.
    """
    for remark in recipe.finetune.remarks():
        progress(f"warning: {remark}")
    if is_merged:
        finetune.stage.refuse_unmergeable(recipe)
    reason = finetune.stage.unmergeable(recipe)
    if reason is not None:
        progress(f"warning: {reason}")


def _stages(recipe: Recipe, until: str) -> tuple[str, ...]:
    """A recipe without a search has no such stage."""
    wanted = STAGES[: STAGES.index(until) + 1]
    return tuple(s for s in wanted if s != "search" or recipe.finetune.search is not None)


def _forget_infeasible(folder: RunDir) -> None:
    """A machine that was busy may be idle now: what no candidate kept to is measured anew."""
    candidates = folder.folder("candidates")
    try:
        chosen = Certificate.read(candidates / RECORD_NAME).chosen
    except EdgeloopError:
        return  # not measured yet, or the stage is done again for its damaged record
    if chosen is None:
        shutil.rmtree(candidates)


def _steps(run: Run, stages: Iterable[str]) -> None:
    for stage in stages:
        _step(run, stage)
        if run.stopped:
            break


def _step(run: Run, stage: str) -> None:
    if stage == "baselines" and not run.with_baselines:
        return
    before = _results(run, stage)
    started = time.monotonic()
    logger.info("stage=%s run=%s start", stage, run.id)
    STEPS[stage](run)
    seconds = time.monotonic() - started
    logger.info("stage=%s run=%s end seconds=%.1f", stage, run.id, seconds)
    after = _results(run, stage)
    if after:  # retention has nothing to show where nothing can have been forgotten
        done = "complete already" if after == before else f"done in {seconds:.1f} s"
        run.progress(f"{stage}: {done}")


def _results(run: Run, stage: str) -> dict[Path, bytes]:
    """The stage's records as they lie on the disk; a bundle may lie beside another."""
    pattern = f"bundle*/{MANIFEST}" if stage == "bundle" else f"{stage}/{RECORD_NAME}"
    return {path: path.read_bytes() for path in run.folder.root.glob(pattern)}


def run_inputs(
    recipe: Recipe, extra: Iterable[LabelledRow], previous: Bundle | None = None
) -> dict[str, object]:
    """All that a run depends on: its folder is found again by the digest of this. A deployed model
    that is only compared with is no part of it: the run that made it must be found again."""
    inputs: dict[str, object] = {
        "recipe": recipe.digest(),
        "files": {str(path): _digest(path) for _, path in source_files(recipe.data)},
        "extra": sorted((row.id, row.text, row.label) for row in extra),
    }
    files = retention_files(recipe)
    if files:
        key = "finetune.retention.files"
        inputs["retention"] = {str(path): _digest(path, key) for path in files}
    used = used_digest(recipe, previous)
    return inputs if used is None else {**inputs, "previous": used}


def _digest(path: Path, key: str = "data.files") -> str:
    try:
        return digest_file(path)
    except OSError as problem:
        raise DatasetError(
            f"{path}: the data file cannot be read ({problem.strerror}); see {key}"
        ) from None

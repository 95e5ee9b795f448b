"""A run folder up to the drift reference, and a bundle with a live one, around a tiny model."""

import shutil
from pathlib import Path

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.recipe import Data, Monitor, Recipe, Serve, TaskName
from edgeloop.records import Dataset, Reference
from edgeloop.records_compress import Certificate
from edgeloop.rows import write_rows
from edgeloop.rundir import RunDir
from monitor import stage
from tests import certified, tiny

CANDIDATE = "onnx-fp32"
TARGET = 300
ROWS = "reference.jsonl"
PLAIN: TaskName = "text-classification"


def recipe(target_run_length: int = TARGET, task: TaskName = PLAIN) -> Recipe:
    """What the stage reads of a recipe."""
    return Recipe(
        name="tiny",
        task=task,
        base="tiny",
        data=Data(files=(Path("rows.csv"),)),
        serve=Serve(max_tokens=64),
        monitor=Monitor(target_run_length=target_run_length),
    )


def dataset(rows: int, task: TaskName = PLAIN) -> Dataset:
    """The record of the rows that `make_run` writes."""
    return Dataset(
        inputs_digest="0" * 64,
        files=(),
        digest=f"{rows:064d}",
        labels=() if task == "text-embedding" else tiny.LABELS,
        rows={"reference": rows},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


def certificate(chosen: str | None = CANDIDATE) -> Certificate:
    """The record of a budget that was met."""
    return certified.certificate(chosen)


def make_run(
    root: Path, rows: int = 560, task: TaskName = PLAIN, text_pair: bool = False
) -> RunDir:
    """A run folder with reference rows and a candidate."""
    run = RunDir(root)
    run.folder("dataset").mkdir(parents=True)
    write_rows(run.folder("dataset") / ROWS, tiny.rows(task, rows, 5, text_pair))
    tiny.make_model(run.folder("candidates") / CANDIDATE, task=task, text_pair=text_pair)
    return run


def fit_run(
    run: RunDir, rows: int = 560, task: TaskName = PLAIN, target: int = TARGET
) -> Reference:
    """Do the stage."""
    said: list[str] = []
    return stage.run(recipe(target, task), dataset(rows, task), certificate(), run, said.append)


def make_bundle(
    root: Path,
    rows: int = 560,
    task: TaskName = PLAIN,
    text_pair: bool = False,
    target: int = TARGET,
) -> Bundle:
    """A bundle whose reference was fitted on `rows` rows."""
    run = make_run(root / "run", rows, task, text_pair)
    reference = fit_run(run, rows, task, target)
    content = (run.folder("reference") / REFERENCE).read_bytes()
    shutil.rmtree(run.root)
    return tiny.make_bundle(
        root / "bundle",
        reference=reference,
        reference_npz=content,
        task=task,
        text_pair=text_pair,
    )

"""A run folder up to the drift reference, and a bundle with a live one, around the tiny model."""

import json
import shutil
from pathlib import Path

from edgeloop.bundle import REFERENCE, Bundle
from edgeloop.recipe import Data, Monitor, Recipe, Serve
from edgeloop.records import Certificate, Dataset, Reference
from edgeloop.rundir import RunDir
from monitor import stage
from tests import tiny

CANDIDATE = "onnx-fp32"
TARGET = 300
ROWS = "reference.jsonl"


def recipe(target_run_length: int = TARGET) -> Recipe:
    """What the stage reads of a recipe."""
    return Recipe(
        name="tiny",
        base="tiny",
        data=Data(files=(Path("rows.csv"),)),
        serve=Serve(max_tokens=64),
        monitor=Monitor(target_run_length=target_run_length),
    )


def dataset(rows: int) -> Dataset:
    """The record of the rows that `make_run` writes."""
    return Dataset(
        inputs_digest="0" * 64,
        files=(),
        digest=f"{rows:064d}",
        labels=tiny.LABELS,
        rows={"reference": rows},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


def certificate(chosen: str | None = CANDIDATE) -> Certificate:
    """The record of a budget that was met."""
    return Certificate(
        inputs_digest="0" * 64,
        files=(),
        budget={},
        confidence=0.95,
        chosen=chosen,
        candidates=(),
        machine=tiny.figures()[2],
    )


def make_run(root: Path, rows: int = 560) -> RunDir:
    """A run folder with reference rows and a candidate."""
    run = RunDir(root)
    run.folder("dataset").mkdir(parents=True)
    lines = [
        json.dumps({"id": f"r{i}", "text": text, "label": label})
        for i, (text, label) in enumerate(tiny.sentences(rows, seed=5))
    ]
    (run.folder("dataset") / ROWS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    tiny.make_model(run.folder("candidates") / CANDIDATE)
    return run


def fit_run(run: RunDir, rows: int = 560) -> Reference:
    """Do the stage."""
    said: list[str] = []
    return stage.run(recipe(), dataset(rows), certificate(), run, said.append)


def make_bundle(root: Path, rows: int = 560) -> Bundle:
    """A bundle whose reference was fitted on `rows` rows."""
    run = make_run(root / "run", rows)
    reference = fit_run(run, rows)
    content = (run.folder("reference") / REFERENCE).read_bytes()
    shutil.rmtree(run.root)
    return tiny.make_bundle(root / "bundle", reference=reference, reference_npz=content)

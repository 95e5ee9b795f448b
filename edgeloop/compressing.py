"""`edgeloop compress FOLDER --data rows.csv`: a certificate for any Hugging Face encoder, without a
recipe. The rows are divided by their digests: some make the candidates, some choose, some certify.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compress.stage
import finetune.stage
from compress.given import model_labels, take
from edgeloop.errors import DatasetError, RecipeError
from edgeloop.kinds import model_files
from edgeloop.loop import run_inputs
from edgeloop.recipe import Recipe, make_recipe
from edgeloop.records import Dataset
from edgeloop.records_compress import Certificate
from edgeloop.rundir import RunDir, sync_files, work_in_run

Progress = Callable[[str], None]
SPLIT = {"train": 0.4, "validation": 0.2, "test": 0.4}
CERTIFICATE = "certificate.json"


@dataclass(frozen=True)
class Compressed:
    """`out` is where the chosen model lies with its certificate; None where none was chosen."""

    certificate: Certificate
    out: Path | None


def recipe_for(folder: Path, data: Sequence[Path], task: str, overrides: Sequence[str]) -> Recipe:
    """The recipe that a folder and files of rows stand for; `overrides` are KEY=VALUE as of --set.

    Raises RecipeError with all problems.
    """
    if not data:
        raise RecipeError(
            "name labelled rows with --data FILE: a candidate is certified on them, and no claim "
            "can be made without"
        )
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")[:50] or "model"
    document: dict[str, Any] = {
        "name": f"compress-{name}",
        "task": task,
        "base": str(folder.resolve()),
        "data": {"files": [str(path.resolve()) for path in data], "split": SPLIT},
    }
    return make_recipe(document, overrides, Path("compress"))


def compress_folder(
    folder: Path, recipe: Recipe, home: Path, out: Path, progress: Progress
) -> Compressed:
    """Measure and certify; a killed run goes on where it stopped.

    Raises RecipeError where `out` is taken, DatasetError where the rows do not read or have labels
    that the model does not know, ExportError where the folder is no model that can be exported.
    """
    if out.exists():
        raise RecipeError(f"--out {out}: is there already; name another folder or remove it")
    labels = model_labels(folder, recipe.task)
    with work_in_run(home, recipe.name, run_inputs(recipe, ())) as run:
        dataset = finetune.stage.prepare(recipe, run)
        _check_labels(folder, dataset, labels)
        merged = take(folder, recipe.task, dataset.digest, run)
        certificate = compress.stage.run(recipe, dataset, merged, run, progress)
        if certificate.chosen is None:
            return Compressed(certificate, None)
        _hand_out(run, certificate, out)
    return Compressed(certificate, out)


def _check_labels(folder: Path, dataset: Dataset, labels: tuple[str, ...]) -> None:
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown:
        raise DatasetError(
            f"the rows have {len(unknown)} labels that {folder} does not know, such as "
            f"{', '.join(map(repr, unknown[:3]))}; it knows {', '.join(map(repr, labels[:5]))}. "
            "Rename one of them (id2label in config.json, or the rows)"
        )


def _hand_out(run: RunDir, certificate: Certificate, out: Path) -> None:
    """The chosen model's files and the certificate, written aside and renamed."""
    assert certificate.chosen is not None
    chosen = run.folder("candidates") / certificate.chosen
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    for name in model_files(chosen):
        shutil.copyfile(chosen / name, aside / name)
    certificate.write(aside / CERTIFICATE)
    sync_files(aside)
    os.replace(aside, out)
    out.chmod(0o755)

"""Puts the chosen candidate, the drift reference and the golden rows into a bundle.

Reads the stage folders dataset/, candidates/<chosen>/ and reference/; writes bundle/. A bundle that
is there already may be deployed: it is never deleted and never overwritten.
"""

import logging
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeloop import card
from edgeloop.abstain import Abstention, calibrate
from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MANIFEST,
    REFERENCE,
    Bundle,
    GoldenRow,
    open_bundle,
    write_bundle,
)
from edgeloop.codebase import code_digest
from edgeloop.errors import BundleError, EngineError
from edgeloop.golden import make_golden
from edgeloop.kinds import kind_of, model_files
from edgeloop.ledger import Deployment, Ledger, RunResult
from edgeloop.models import open_model
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, FileEntry, Manifest, Reference
from edgeloop.records_compress import Candidate, Certificate
from edgeloop.rows import read_rows
from edgeloop.rundir import RunDir, digest_entries, digest_of
from edgeloop.tasks import TASKS

logger = logging.getLogger(__name__)

CODE = "code"
TOOLS = ("edgeloop", "torch", "transformers", "peft", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True)
class Chosen:
    """What ships: the candidate and everything that was found out about it."""

    recipe: Recipe
    dataset: Dataset
    certificate: Certificate
    candidate: Candidate
    reference: Reference
    run: RunDir

    @property
    def folder(self) -> Path:
        """The candidate's own folder."""
        return self.run.folder("candidates") / self.candidate.kind


@dataclass(frozen=True)
class Answered:
    """What the artefact itself answered to the rows that travel with it or calibrate it."""

    golden: tuple[GoldenRow, ...]
    abstention: Abstention
    text_pair: bool


def ship(
    recipe: Recipe,
    dataset: Dataset,
    adapter: Adapter,
    certificate: Certificate,
    reference: Reference,
    run: RunDir,
) -> Bundle:
    """Open the bundle that is there and was made from the same parents, or write it: into bundle/,
    or beside it into bundle-<digest of the parents> where bundle/ holds another or a damaged one.
    A bundle of the same parents stands whichever code made it: it may be deployed.

    Raises BundleError where the chosen candidate is gone or the bundle cannot be written,
    DatasetError where the rows do not read, EngineError where the candidate does not answer.
    """
    candidate = next(c for c in certificate.candidates if c.kind == certificate.chosen)
    inputs = _inputs(recipe, dataset, adapter, candidate, reference)
    folder = _place(run, inputs)
    made = _open_made_from(folder, inputs)
    if made is not None:
        return made
    chosen = Chosen(recipe, dataset, certificate, candidate, reference, run)
    try:
        kind_of(chosen.folder)
    except EngineError as problem:
        raise BundleError(str(problem)) from None
    answered = _answer(chosen)
    parents = {**inputs, CODE: code_digest()}
    if os.path.lexists(folder):
        _move_aside(folder)

    def fill(aside: Path) -> None:
        _fill(aside, chosen, answered)

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        return _manifest(chosen, answered, parents, files)

    return write_bundle(folder, fill, manifest)


def deploy(ledger: Ledger, model: str, bundle: Bundle, finished: RunResult) -> Deployment:
    """End a run: its bundle is deployed where no good one is; what is deployed then."""
    now = ledger.deployed(model)
    if now is not None and _is_whole(now):
        ledger.finish_run(finished)
        return now
    reason = "first bundle" if now is None else "the deployed bundle is gone or damaged"
    return ledger.promote(model, bundle.digest, bundle.path, reason, finished=finished)


def _is_whole(deployed: Deployment) -> bool:
    try:
        return open_bundle(deployed.path).digest == deployed.bundle_digest
    except BundleError:
        return False


def _place(run: RunDir, inputs: dict[str, str]) -> Path:
    """bundle/ where it is of these inputs or holds no bundle; else the folder beside it."""
    folder = run.folder("bundle")
    if not (folder / MANIFEST).exists() or _open_made_from(folder, inputs) is not None:
        return folder
    return run.folder(f"bundle-{digest_of(inputs)[:8]}")


def _open_made_from(folder: Path, inputs: dict[str, str]) -> Bundle | None:
    try:
        bundle = open_bundle(folder)
    except BundleError:
        return None  # none there, or damaged
    parents = {name: digest for name, digest in bundle.manifest.parents.items() if name != CODE}
    return bundle if parents == inputs else None


def _move_aside(folder: Path) -> None:
    """Keep what is damaged, under a hidden name: somebody may want to look at it."""
    aside = Path(tempfile.mkdtemp(prefix=f".damaged-{folder.name}-", dir=folder.parent))
    os.replace(folder, aside / folder.name)
    logger.warning("folder=%s damaged, moved to %s", folder, aside)


def _inputs(
    recipe: Recipe, dataset: Dataset, adapter: Adapter, candidate: Candidate, reference: Reference
) -> dict[str, str]:
    """All parents but the code, by the digest that says whether a bundle must be made again."""
    return {
        "base": adapter.base_digest,
        "dataset": dataset.digest,
        "adapter": digest_entries(adapter.files),
        "merged": candidate.merged_digest,
        "candidate": digest_entries(candidate.files),
        "reference": digest_entries(reference.files),
        "recipe": recipe.digest(),
    }


def _answer(chosen: Chosen) -> Answered:
    recipe, labels, task = chosen.recipe, chosen.dataset.labels, TASKS[chosen.recipe.task]
    model = open_model(chosen.folder, recipe.serve.max_tokens)
    data = chosen.run.folder("dataset")
    test, reference = read_rows(data, "test"), read_rows(data, "reference")
    return Answered(
        golden=tuple(make_golden(task, model, labels, test)),
        abstention=calibrate(task, model, labels, reference, recipe.serve.max_abstain_ratio),
        text_pair=any(not isinstance(text, str) for text in task.inputs(test)),
    )


def _fill(aside: Path, chosen: Chosen, answered: Answered) -> None:
    for name in model_files(chosen.folder):
        shutil.copyfile(chosen.folder / name, aside / name)
    shutil.copyfile(chosen.run.folder("reference") / REFERENCE, aside / REFERENCE)
    lines = "".join(f"{row.model_dump_json()}\n" for row in answered.golden)
    (aside / GOLDEN).write_text(lines, encoding="utf-8", newline="\n")
    text = card.render(
        chosen.recipe, chosen.dataset, chosen.candidate, chosen.reference, answered.abstention
    )
    (aside / CARD).write_text(text, encoding="utf-8")


def _manifest(
    chosen: Chosen, answered: Answered, parents: dict[str, str], files: tuple[FileEntry, ...]
) -> Manifest:
    recipe, candidate, certificate = chosen.recipe, chosen.candidate, chosen.certificate
    return Manifest(
        name=recipe.name,
        task=recipe.task,
        engine=kind_of(chosen.folder).engine,
        candidate=candidate.kind,
        labels=chosen.dataset.labels,
        max_tokens=recipe.serve.max_tokens,
        deadline_ms=recipe.serve.deadline_ms,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        files=files,
        parents=parents,
        measurement=candidate.measurement,
        accuracy=candidate.accuracy,
        test_accuracy=candidate.test_accuracy,
        budget=certificate.budget,
        machine=certificate.machine,
        reference=chosen.reference,
        tool_versions=_tool_versions(),
        text_pair=answered.text_pair,
        abstain_below=answered.abstention.below,
        abstain_rows=answered.abstention.rows,
        max_abstain_ratio=recipe.serve.max_abstain_ratio,
    )


def _tool_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found

"""Puts the chosen candidate, its tokenizer, the drift reference and the golden rows into a bundle.

Reads the stage folders dataset/, candidates/<chosen>/ and reference/; writes bundle/. A bundle that
is there already may be deployed: it is never deleted and never overwritten.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edgeloop import card
from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MANIFEST,
    MODEL,
    REFERENCE,
    TOKENIZER,
    Bundle,
    GoldenRow,
    open_bundle,
    write_bundle,
)
from edgeloop.errors import BundleError
from edgeloop.ledger import Deployment, LabelledRow, Ledger, RunResult
from edgeloop.recipe import Recipe
from edgeloop.records import (
    Adapter,
    Candidate,
    Certificate,
    Dataset,
    FileEntry,
    Manifest,
    Reference,
)
from edgeloop.rundir import RunDir, digest_entries, digest_of
from edgeloop.runtime import OnnxModel, softmax

logger = logging.getLogger(__name__)

GOLDEN_ROWS = 128
TOOLS = ("edgeloop", "torch", "transformers", "peft", "onnx", "onnxruntime", "tokenizers")


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

    Raises BundleError where the chosen candidate is gone or the bundle cannot be written.
    """
    candidate = next(c for c in certificate.candidates if c.kind == certificate.chosen)
    parents = _parents(recipe, dataset, adapter, candidate, reference)
    folder = _place(run, parents)
    made = _open_made_from(folder, parents)
    if made is not None:
        return made
    if not (run.folder("candidates") / candidate.kind / MODEL).exists():
        raise BundleError(f"{run.root}: {candidate.kind}/{MODEL} is gone; run the recipe again")
    if os.path.lexists(folder):
        _move_aside(folder)

    def fill(aside: Path) -> None:
        _fill(aside, recipe, dataset, candidate, reference, run)

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        return _manifest(recipe, dataset, certificate, candidate, reference, parents, files)

    return write_bundle(folder, fill, manifest)


def deploy(ledger: Ledger, model: str, bundle: Bundle, finished: RunResult) -> Deployment:
    """End a run: its bundle is deployed where no good one is; what is deployed then."""
    now = ledger.deployed(model)
    if now is not None and _is_whole(now):
        ledger.finish_run(finished)
        return now
    reason = "first bundle" if now is None else "the deployed bundle is gone or damaged"
    return ledger.promote(model, bundle.digest, bundle.path, reason, finished=finished)


def read_rows(folder: Path, split: str) -> list[LabelledRow]:
    """The rows of one split of a dataset folder; empty where the split does not exist."""
    path = folder / f"{split}.jsonl"
    if not path.exists():
        return []
    # Not splitlines(): a text may hold U+2028, which JSON leaves as it is.
    documents = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    return [LabelledRow(d["id"], d["text"], d["label"]) for d in documents]


def _is_whole(deployed: Deployment) -> bool:
    try:
        return open_bundle(deployed.path).digest == deployed.bundle_digest
    except BundleError:
        return False


def _place(run: RunDir, parents: dict[str, str]) -> Path:
    """bundle/ where it is of these parents or holds no bundle; else the folder beside it."""
    folder = run.folder("bundle")
    if not (folder / MANIFEST).exists() or _open_made_from(folder, parents) is not None:
        return folder
    return run.folder(f"bundle-{digest_of(parents)[:8]}")


def _open_made_from(folder: Path, parents: dict[str, str]) -> Bundle | None:
    try:
        bundle = open_bundle(folder)
    except BundleError:
        return None  # none there, or damaged
    return bundle if bundle.manifest.parents == parents else None


def _move_aside(folder: Path) -> None:
    """Keep what is damaged, under a hidden name: somebody may want to look at it."""
    aside = Path(tempfile.mkdtemp(prefix=f".damaged-{folder.name}-", dir=folder.parent))
    os.replace(folder, aside / folder.name)
    logger.warning("folder=%s damaged, moved to %s", folder, aside)


def _parents(
    recipe: Recipe, dataset: Dataset, adapter: Adapter, candidate: Candidate, reference: Reference
) -> dict[str, str]:
    return {
        "base": adapter.base_digest,
        "dataset": dataset.digest,
        "adapter": digest_entries(adapter.files),
        "merged": candidate.merged_digest,
        "candidate": digest_entries(candidate.files),
        "reference": digest_entries(reference.files),
        "recipe": recipe.digest(),
    }


def _fill(
    aside: Path,
    recipe: Recipe,
    dataset: Dataset,
    candidate: Candidate,
    reference: Reference,
    run: RunDir,
) -> None:
    made = run.folder("candidates") / candidate.kind
    for name in (MODEL, TOKENIZER):
        shutil.copyfile(made / name, aside / name)
    shutil.copyfile(run.folder("reference") / REFERENCE, aside / REFERENCE)
    model = OnnxModel(aside / MODEL, aside / TOKENIZER, recipe.serve.max_tokens)
    rows = _golden(model, dataset.labels, read_rows(run.folder("dataset"), "test"))
    lines = "".join(f"{row.model_dump_json()}\n" for row in rows)
    (aside / GOLDEN).write_text(lines, encoding="utf-8", newline="\n")
    (aside / CARD).write_text(card.render(recipe, dataset, candidate, reference), encoding="utf-8")


def _golden(
    model: OnnxModel, labels: Sequence[str], test_rows: Sequence[LabelledRow]
) -> list[GoldenRow]:
    """At most GOLDEN_ROWS test rows, the same ones as long as the test rows stay the same."""
    by_digest = sorted(test_rows, key=lambda row: hashlib.sha256(row.id.encode()).hexdigest())
    chosen = by_digest[:GOLDEN_ROWS]
    probabilities = softmax(model.score([row.text for row in chosen]).logits)
    return [
        GoldenRow(
            id=row.id,
            text=row.text,
            label=row.label,
            expected=labels[int(scores.argmax())],
            score=round(float(scores.max()), 6),
        )
        for row, scores in zip(chosen, probabilities, strict=True)
    ]


def _manifest(
    recipe: Recipe,
    dataset: Dataset,
    certificate: Certificate,
    candidate: Candidate,
    reference: Reference,
    parents: dict[str, str],
    files: tuple[FileEntry, ...],
) -> Manifest:
    return Manifest(
        name=recipe.name,
        task=recipe.task,
        engine="onnx",
        candidate=candidate.kind,
        labels=dataset.labels,
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
        reference=reference,
        tool_versions=_tool_versions(),
    )


def _tool_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for tool in TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found

"""The folder that ships. Written aside and renamed; opened only through `open_bundle`, which
checks schema, sizes and hashes before a byte of the model is used.

    manifest.json  model.onnx  tokenizer.json  reference.npz  golden.jsonl  README.md
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from edgeloop.errors import BundleError
from edgeloop.records import FileEntry, Manifest, Record
from edgeloop.rundir import digest_file, list_files, sync_files, sync_folder, write_atomic

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
REFERENCE = "reference.npz"
GOLDEN = "golden.jsonl"
CARD = "README.md"
NEEDED = (MODEL, TOKENIZER, REFERENCE, GOLDEN, CARD)
SCHEMA_VERSION = 1
NOT_LISTED = (MANIFEST, "model.sig")


class GoldenRow(Record):
    """A test row with the label that a person gave and the answer that the artefact gave."""

    id: str
    text: str
    label: str
    expected: str
    score: float


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: every file was checked against the manifest."""

    path: Path
    manifest: Manifest
    digest: str

    def file(self, name: str) -> Path:
        """A file of the bundle by its name."""
        return self.path / name

    def golden(self) -> tuple[GoldenRow, ...]:
        """The rows that are replayed before every activation."""
        lines = self.file(GOLDEN).read_text(encoding="utf-8").splitlines()
        return tuple(GoldenRow.model_validate_json(line) for line in lines)


def open_bundle(path: Path) -> Bundle:
    """Check a bundle and open it.

    Raises BundleError that names the file, what was expected, what was found and what to do.
    """
    manifest, digest = _read_manifest(path)
    problems = [p for entry in manifest.files for p in _check(path, entry)]
    listed = {entry.path for entry in manifest.files}
    problems += [f"{name} is not in the manifest" for name in NEEDED if name not in listed]
    found = {entry.path for entry in list_files(path, NOT_LISTED)}
    problems += [f"{name} lies in the folder, the manifest lacks it" for name in found - listed]
    if problems:
        raise BundleError(
            f"{path}: the bundle is damaged: {'; '.join(sorted(problems))}. "
            "Copy it again from where it was built."
        )
    return Bundle(path, manifest, digest)


def _read_manifest(path: Path) -> tuple[Manifest, str]:
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError:
        raise BundleError(f"{path}: no bundle here, {MANIFEST} cannot be read") from None
    try:
        document = json.loads(data)
    except ValueError as problem:
        raise BundleError(f"{path}/{MANIFEST}: not JSON ({problem}); copy it again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version {version} is newer than {SCHEMA_VERSION}, which this edgeloop "
            "reads; upgrade edgeloop on this box"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise BundleError(f"{path}/{MANIFEST}: {where}: {first['msg']}") from None
    return manifest, hashlib.sha256(data).hexdigest()


def _check(folder: Path, entry: FileEntry) -> list[str]:
    path = folder / entry.path
    if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
        return [f"{entry.path} points outside the bundle"]
    if not path.is_file():
        return [f"{entry.path} is missing"]
    size = path.stat().st_size
    if size != entry.bytes:
        return [f"{entry.path} has {size} bytes, the manifest says {entry.bytes}"]
    if digest_file(path) != entry.sha256:
        return [f"{entry.path} has another SHA-256 than the manifest says"]
    return []


def write_bundle(
    folder: Path,
    fill: Callable[[Path], None],
    manifest: Callable[[tuple[FileEntry, ...]], Manifest],
) -> Bundle:
    """Let `fill` write the files aside, add the manifest last, rename into place, open.

    Raises BundleError where the folder exists already: bundles are never overwritten.
    """
    if folder.exists():
        raise BundleError(f"{folder}: exists already; bundles are never overwritten")
    aside = folder.with_name(f".work-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    fill(aside)
    document = manifest(list_files(aside, NOT_LISTED))
    write_atomic(aside / MANIFEST, (document.model_dump_json(indent=2) + "\n").encode())
    sync_files(aside)
    os.replace(aside, folder)
    sync_folder(folder.parent)
    return open_bundle(folder)

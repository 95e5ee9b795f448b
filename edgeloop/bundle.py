"""The folder that ships. Written aside and renamed; opened only through `open_bundle`, which
checks schema, sizes and hashes before a byte of the model is used.

    manifest.json  reference.npz  golden.jsonl  README.md  and the model's files (edgeloop.kinds)
    model.sig      where it is signed (edgeloop.signing)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from edgeloop.errors import BundleError
from edgeloop.kinds import MODEL as MODEL
from edgeloop.kinds import TOKENIZER as TOKENIZER
from edgeloop.kinds import find_kind, lacking
from edgeloop.records import FileEntry, Manifest, Record
from edgeloop.rows import TextInput
from edgeloop.rundir import digest_file, list_files, sync_files, sync_folder, write_atomic

MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
GOLDEN = "golden.jsonl"
CARD = "README.md"
SIGNATURE = "model.sig"
NEEDED = (REFERENCE, GOLDEN, CARD)
SCHEMA_VERSION = 1
NOT_LISTED = (MANIFEST, SIGNATURE)


class GoldenRow(Record):
    """A test row with the answer that a person gave and the one that the artefact gave, each in one
    word (edgeloop.tasks.Answer.label); of a text-embedding model the vector instead."""

    id: str
    text: str
    label: str
    expected: str
    score: float
    text_pair: str | None = None
    vector: tuple[float, ...] | None = None

    @property
    def input(self) -> TextInput:
        """What the model reads."""
        return self.text if self.text_pair is None else (self.text, self.text_pair)


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
        """The rows that are replayed before every activation.

        Raises BundleError where a line is not such a row.
        """
        # Not splitlines(): a text may hold U+2028, which JSON leaves as it is.
        lines = self.file(GOLDEN).read_bytes().removesuffix(b"\n").split(b"\n")
        try:
            return tuple(GoldenRow.model_validate_json(line) for line in lines)
        except ValidationError as problem:
            raise BundleError(f"{self.file(GOLDEN)}: {_first_problem(problem)}") from None


def open_bundle(path: Path) -> Bundle:
    """Check a bundle and open it.

    Raises BundleError that names the file, what was expected, what was found and what to do.
    """
    manifest, digest = _read_manifest(path)
    problems = [p for entry in manifest.files for p in _check(path, entry)]
    listed = {entry.path for entry in manifest.files}
    problems += _unlisted(manifest, listed)
    found = {entry.path for entry in list_files(path, NOT_LISTED)}
    problems += [f"{name} lies in the folder, the manifest lacks it" for name in found - listed]
    problems += [f"{p.relative_to(path)} is a link" for p in path.rglob("*") if p.is_symlink()]
    if problems:
        raise BundleError(
            f"{path}: the bundle is damaged: {'; '.join(sorted(problems))}. "
            "Copy it again from where it was built."
        )
    return Bundle(path, manifest, digest)


def manifest_digest(path: Path) -> str:
    """The digest that the bundle in a folder has if it is sound, without reading its files.
    Raises BundleError where there is no manifest."""
    try:
        return digest_file(path / MANIFEST)
    except OSError:
        raise BundleError(f"{path}: no bundle here, {MANIFEST} cannot be read") from None


def _unlisted(manifest: Manifest, listed: set[str]) -> list[str]:
    """Files that the bundle needs and the manifest does not name."""
    engine = manifest.engine
    missing = lacking(engine, listed) + [name for name in NEEDED if name not in listed]
    found = find_kind(listed)
    if not missing and (found is None or found.engine != engine):
        return [f"its engine is {engine}, its files are of {found and found.engine}"]
    return [f"{name} is not in the manifest" for name in missing]


def _read_manifest(path: Path) -> tuple[Manifest, str]:
    try:
        data = (path / MANIFEST).read_bytes()
    except OSError:
        raise BundleError(f"{path}: no bundle here, {MANIFEST} cannot be read") from None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise BundleError(f"{path}/{MANIFEST}: not JSON ({problem}); copy it again") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise BundleError(f"{path}/{MANIFEST}: no schema_version; this is not a bundle's manifest")
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema_version {version} is newer than {SCHEMA_VERSION}, which this edgeloop "
            "reads; upgrade edgeloop on this box"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as problem:
        raise BundleError(f"{path}/{MANIFEST}: {_first_problem(problem)}; copy it again") from None
    return manifest, hashlib.sha256(data).hexdigest()


def _first_problem(problem: ValidationError) -> str:
    first = problem.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "document"
    return f"{where}: {first['msg']}"


def _check(folder: Path, entry: FileEntry) -> list[str]:
    path = folder / entry.path
    if Path(entry.path).is_absolute() or ".." in Path(entry.path).parts:
        return [f"{entry.path} points outside the bundle"]
    try:
        if path.is_symlink() or not path.is_file():
            return [f"{entry.path} is missing"]
        size = path.stat().st_size
        if size != entry.bytes:
            return [f"{entry.path} has {size} bytes, the manifest says {entry.bytes}"]
        if digest_file(path) != entry.sha256:
            return [f"{entry.path} has another SHA-256 than the manifest says"]
    except OSError as problem:
        return [f"{entry.path} cannot be read ({problem.strerror})"]
    return []


def write_bundle(
    folder: Path,
    fill: Callable[[Path], None],
    manifest: Callable[[tuple[FileEntry, ...]], Manifest],
) -> Bundle:
    """Let `fill` write the files aside, add the manifest last, check, rename into place.

    Raises BundleError where the folder exists already (bundles are never overwritten), cannot be
    written, or `fill` left a file out. Whatever is raised, nothing stays behind.
    """
    if os.path.lexists(folder):
        raise BundleError(f"{folder}: exists already; bundles are never overwritten")
    aside = folder.with_name(f".work-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        fill(aside)
        document = manifest(list_files(aside, NOT_LISTED))
        write_atomic(aside / MANIFEST, document.to_bytes())
        bundle = open_bundle(aside)
        sync_files(aside)
        os.replace(aside, folder)
        sync_folder(folder.parent)
    except OSError as problem:
        raise BundleError(f"{folder}: cannot be written ({problem})") from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return replace(bundle, path=folder)

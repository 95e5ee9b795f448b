"""Which code made a bundle: one digest over edgeloop's own Python files. The version alone does not
tell a changed checkout from the release that it was."""

from pathlib import Path

from edgeloop.rundir import digest_file, digest_of

PACKAGES = ("edgeloop", "finetune", "compress", "serve", "monitor")
ROOT = Path(__file__).resolve().parent.parent


def code_digest(root: Path = ROOT) -> str:
    """SHA-256 over the relative paths and contents of the five packages' .py files below `root`;
    the same for a checkout and for the wheel that was built of it."""
    files = sorted(file for package in PACKAGES for file in (root / package).rglob("*.py"))
    return digest_of([(file.relative_to(root).as_posix(), digest_file(file)) for file in files])

"""Builds candidates: their sources one after another, for a training takes all cores; then their
steps, as many at once as there are cores. What is complete stays; a failure is told and the others
go on.
"""

import logging
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from compress.build import write_source
from compress.candidates import CANDIDATES, MERGED
from compress.job import Job
from compress.machine import describe_machine
from compress.processes import run_module
from compress.teacher import Teacher
from compress.texts import write_texts

logger = logging.getLogger(__name__)


@dataclass
class Built:
    """Candidate folders by kind, and why a kind has none."""

    folders: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def build(job: Job, teacher: Teacher, kinds: Sequence[str]) -> Built:
    """Make the candidates of these kinds, or find them made."""
    built = Built()
    missing = [kind for kind in kinds if not (job.folder / kind).exists()]
    described = _sources(job, teacher, missing, built)
    ready = [kind for kind in missing if kind not in built.failures]
    with ThreadPoolExecutor(max_workers=describe_machine().cores) as pool:
        plans = [(job, kind, described[CANDIDATES[kind].source]) for kind in ready]
        reasons = list(pool.map(lambda plan: _build_one(*plan), plans))
    built.failures |= {k: r for k, r in zip(ready, reasons, strict=True) if r is not None}
    built.folders = {kind: job.folder / kind for kind in kinds if kind not in built.failures}
    return built


def _sources(job: Job, teacher: Teacher, kinds: Iterable[str], built: Built) -> dict[str, Path]:
    """A file that describes it per source; the kinds of a source that fails, fail."""
    texts = write_texts(job.scratch / "training.json", job.training_texts)
    described: dict[str, Path] = {}
    for name in dict.fromkeys(CANDIDATES[kind].source for kind in kinds):
        path = job.scratch / f"{name}.json"
        try:
            write_source(teacher.source(name), path, texts)
        except Exception as problem:
            if name == MERGED:
                raise
            logger.warning("source=%s cannot be made", name, exc_info=True)
            of_it = [kind for kind in kinds if CANDIDATES[kind].source == name]
            built.failures |= {kind: f"{name}: {problem}" for kind in of_it}
        else:
            described[name] = path
    return described


def _build_one(job: Job, kind: str, source: Path) -> str | None:
    """None, or why it could not be built."""
    aside, folder = job.folder / f".aside-{kind}", job.folder / kind
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    arguments = ["--source", str(source), "--out", str(aside), *CANDIDATES[kind].steps]
    reason = run_module("compress.build", arguments)
    if reason is None:
        os.replace(aside, folder)
        job.progress(f"{kind}: built, {_megabytes(folder):.1f} MB")
    else:
        shutil.rmtree(aside, ignore_errors=True)
        logger.warning("candidate=%s cannot be built reason=%r", kind, reason)
    return reason


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6

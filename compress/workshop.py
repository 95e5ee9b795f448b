"""Builds candidates. Their sources come one after another, for a training takes all cores; then
their steps, as many at once as there are cores; then the linear model; then cascades, of candidates
that are there. What is complete stays; a failure is told and the others go on.
"""

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from compress.build import write_source
from compress.candidates import CANDIDATES, MERGED, Cascade, Encoder, Linear
from compress.cascade import Choosing, build_cascade
from compress.job import Job
from compress.linear import train_linear
from compress.processes import run_module
from compress.shortlist import corrected
from compress.source import Source
from compress.teacher import Teacher
from compress.texts import write_texts
from compress.threshold import Trial
from compress.trim import coverage
from edgeloop.bundle import TOKENIZER
from edgeloop.errors import EdgeloopError, ExportError
from edgeloop.kinds import LINEAR, model_bytes
from edgeloop.machine import describe_machine

logger = logging.getLogger(__name__)


@dataclass
class Built:
    """Candidate folders by kind, and why a kind has none."""

    folders: dict[str, Path] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def build(job: Job, teacher: Teacher, kinds: Sequence[str]) -> Built:
    """Make the candidates of these kinds, or find them made. Parts of a cascade that are not asked
    for themselves are made as well, and lie there for the stage to remove.

    Raises ExportError where the merged model cannot be exported or its export is another model.
    """
    built = Built()
    parts = [part for kind in kinds for part in parts_of(kind)]
    wanted = list(dict.fromkeys([*parts, *kinds]))
    _encoders(job, teacher, [k for k in wanted if isinstance(CANDIDATES[k], Encoder)], built)
    for kind in wanted:
        plan = CANDIDATES[kind]
        if isinstance(plan, Linear):
            _make(job, kind, partial(_linear, job, teacher), built)
        elif isinstance(plan, Cascade):
            _make(job, kind, partial(_cascade, job, teacher, plan), built)
    built.folders = {kind: built.folders[kind] for kind in kinds if kind in built.folders}
    return built


def parts_of(kind: str) -> tuple[str, ...]:
    """The candidates that a candidate is made of."""
    plan = CANDIDATES[kind]
    return (plan.first, plan.second) if isinstance(plan, Cascade) else ()


def _encoders(job: Job, teacher: Teacher, kinds: Sequence[str], built: Built) -> None:
    described = _sources(job, teacher, kinds, built)
    ready = [kind for kind in kinds if kind not in built.failures]

    def make(kind: str) -> None:
        name, steps = _encoder(kind).source, _encoder(kind).steps
        _make(job, kind, partial(_steps, job, *described[name], steps), built)

    with ThreadPoolExecutor(max_workers=describe_machine().cores) as pool:
        list(pool.map(make, ready))


def _encoder(kind: str) -> Encoder:
    plan = CANDIDATES[kind]
    assert isinstance(plan, Encoder)
    return plan


def _sources(
    job: Job, teacher: Teacher, kinds: Iterable[str], built: Built
) -> dict[str, tuple[Source, Path]]:
    """Each source, and the file that describes it; the kinds of a source that fails, fail."""
    texts = write_texts(job.scratch / "training.json", job.training_texts)
    described: dict[str, tuple[Source, Path]] = {}
    # The merged model first: where its export is not proven, nothing is worth a training.
    for name in dict.fromkeys([MERGED, *(_encoder(kind).source for kind in kinds)]):
        path = job.scratch / f"{name}.json"
        try:
            source = teacher.source(name)
        except Exception as problem:
            if name == MERGED:
                raise
            # A refusal says all that there is to say; anything else is a surprise.
            is_surprise = not isinstance(problem, EdgeloopError)
            logger.warning("source=%s cannot be made", name, exc_info=is_surprise)
            of_it = [kind for kind in kinds if _encoder(kind).source == name]
            built.failures |= dict.fromkeys(of_it, f"{name}: {problem}")
        else:
            write_source(source, path, texts)
            described[name] = (source, path)
    return described


def _make(job: Job, kind: str, fill: Callable[[Path], None], built: Built) -> None:
    """Fill a folder aside and rename it; what is there already is complete."""
    folder, aside = job.folder / kind, job.folder / f".aside-{kind}"
    if not folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            fill(aside)
        except Exception as problem:  # one model that a library stumbles on must not stop others
            logger.warning("candidate=%s cannot be built reason=%r", kind, str(problem))
            built.failures[kind] = str(problem)
            shutil.rmtree(aside, ignore_errors=True)
            return
        os.replace(aside, folder)
        job.progress(f"{kind}: built, {model_bytes(folder) / 1e6:.1f} MB")
    built.folders[kind] = folder


def _steps(job: Job, source: Source, described: Path, steps: Sequence[str], aside: Path) -> None:
    """Run the steps in a process; a trimmed vocabulary must serve texts that it was not made of."""
    arguments = ["--source", str(described), "--out", str(aside), *steps]
    reason = run_module("compress.build", arguments)
    if reason is not None:
        raise ExportError(reason)
    if "trim" in steps:
        found = coverage(source.tokenizer, aside / TOKENIZER, job.choosing_texts)
        if found.problems:
            raise ExportError(
                f"the trimmed vocabulary does not serve the {len(job.choosing_texts)} choosing "
                f"texts: {'; '.join(found.problems)}; add unlabelled texts of the real traffic "
                "(data.unlabelled)"
            )


def _linear(job: Job, teacher: Teacher, aside: Path) -> None:
    material = teacher.lesson.material
    logits = np.stack(material.logits)  # (texts, classes), labelled rows first
    arrays = train_linear(
        job.training_rows,
        logits[: material.labelled],
        job.unlabelled,
        logits[material.labelled :],
        job.recipe.task,
        job.record.labels,
        job.recipe.compress.distill.seed,
        job.max_tokens,
    )
    arrays.save(aside / LINEAR)


def _cascade(job: Job, teacher: Teacher, plan: Cascade, aside: Path) -> None:
    for part in (plan.first, plan.second):
        if not (job.folder / part).exists():
            raise ExportError(f"its part {part} could not be built")
    choosing = Choosing(
        rows=job.rows.choosing,
        reference=teacher.answers[0],
        task=job.recipe.task,
        labels=job.record.labels,
        max_tokens=job.max_tokens,
        trial=Trial(
            job.recipe.compress.budget.max_accuracy_drop,
            corrected(job.recipe.compress.budget, job.recipe.compress.finalists),
            len(job.rows.judging),
        ),
    )
    build_cascade(job.folder / plan.first, job.folder / plan.second, choosing, aside)

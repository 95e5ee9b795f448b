"""The fp32 models that candidates are made from, each proven equal to its torch model, and the
merged model's own answers. All of it stays on the disk while the stage is under way, so that a
killed stage goes on with what is complete.
"""

import logging
import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.answers import pack, unpack
from compress.export import export_merged
from compress.job import Job
from compress.merged import Merged, load_merged
from compress.parity import Expected, check_parity
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.records import Parity, Record
from edgeloop.rundir import RECORD_NAME
from edgeloop.runtime import OnnxModel, RowOutput

SOURCES = ".sources"
ANSWERS = "answers.npz"
PROGRESS_EVERY_ROWS = 200

logger = logging.getLogger(__name__)


class Made(Record):
    """A source's record: which exporter made it, and the proof."""

    exporter: str
    parity: Parity


class Teacher:
    """The merged model, and the sources that come of it, made when they are first asked for."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folder = job.folder / SOURCES
        self._folder.mkdir(exist_ok=True)

    @cached_property
    def model(self) -> Merged:
        """Raises ExportError where the folder does not load or cannot read as much as is asked."""
        job = self._job
        merged = load_merged(job.merged_folder, job.record.labels, job.recipe.task)
        if job.max_tokens > merged.most_tokens:
            raise ExportError(
                f"serve.max_tokens is {job.max_tokens}, this model reads at most "
                f"{merged.most_tokens}; set serve.max_tokens to {merged.most_tokens} or less"
            )
        return merged

    @cached_property
    def answers(self) -> tuple[list[RowOutput], list[RowOutput]]:
        """The merged model's to the choosing and to the judging texts."""
        job = self._job
        path, texts = self._folder / ANSWERS, [*job.choosing_texts, *job.judging_texts]
        if path.exists():
            with np.load(path, allow_pickle=False) as saved:
                outputs = unpack(saved)
        else:
            encoded = [self.model.encode(text, job.max_tokens) for text in texts]
            outputs = self.model.answer(encoded, lambda done: self._report(done, len(texts)))
            aside = path.with_name(f".{ANSWERS}")
            with aside.open("wb") as stream:
                np.savez(stream, **pack(outputs))
            os.replace(aside, path)
        return outputs[: len(job.choosing_texts)], outputs[len(job.choosing_texts) :]

    def source(self, name: str) -> Source:
        """The fp32 model of that name. Raises ExportError where it cannot be made or proven."""
        folder = self._folder / name
        if not folder.exists():
            aside = self._folder / f".aside-{name}"
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            self._make(name, aside).write(aside / RECORD_NAME)
            os.replace(aside, folder)
        job = self._job
        return Source(folder / MODEL, folder / TOKENIZER, job.training_texts, job.max_tokens)

    def made(self, name: str) -> Made:
        """The record of a source that was made."""
        return Made.read(self._folder / name / RECORD_NAME)

    def discard(self) -> None:
        """Remove the sources: the candidates hold all that ships."""
        shutil.rmtree(self._folder)

    def _make(self, name: str, folder: Path) -> Made:
        job = self._job
        job.progress(f"exporting the {name} model to ONNX")
        chosen, judged = self.answers
        exporter = export_merged(self.model, folder / MODEL)
        shutil.copyfile(job.merged_folder / TOKENIZER, folder / TOKENIZER)
        parity = self._prove(folder, self.model, [*chosen, *judged])
        job.progress(
            f"exported by {exporter}: largest difference {parity.max_abs_difference:.1e} on "
            f"{parity.rows} texts"
        )
        return Made(exporter=exporter, parity=parity)

    def _prove(self, folder: Path, model: Merged, outputs: Sequence[RowOutput]) -> Parity:
        job = self._job
        texts = [*job.choosing_texts, *job.judging_texts]
        encoded = [model.encode(text, job.max_tokens) for text in texts]
        runtime = OnnxModel(folder / MODEL, folder / TOKENIZER, job.max_tokens)
        return check_parity(model, runtime, Expected(texts, encoded, outputs), folder / MODEL)

    def _report(self, done: int, count: int) -> None:
        if done % PROGRESS_EVERY_ROWS == 0 or done == count:
            self._job.progress(f"merged model: {done} of {count} texts answered")

"""The fp32 models that candidates are made from, the merged model and its students, each proven
equal to its torch model; and the merged model's own answers. All of it stays on the disk while the
stage is under way, so that a killed stage goes on with what is complete.
"""

import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from compress.answers import pack, unpack
from compress.candidates import MERGED
from compress.export import export_merged
from compress.job import Job
from compress.merged import Merged, load_merged
from compress.parity import Expected, check_parity
from compress.source import Source
from compress.students.kinds import STUDENTS
from compress.students.lesson import Lesson
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.records import Parity, Record
from edgeloop.rows import TextInput
from edgeloop.rundir import RECORD_NAME
from edgeloop.runtime import OnnxModel, RowOutput

SOURCES = ".sources"
ANSWERS = "answers.npz"
PROGRESS_EVERY_ROWS = 200


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
    def lesson(self) -> Lesson:
        """What students are taught; the teacher answers its texts once for all of them."""
        job = self._job
        return Lesson(
            teacher=self.model,
            task=job.recipe.task,
            labels=job.record.labels,
            rows=job.training_rows,
            unlabelled=job.unlabelled,
            max_tokens=job.max_tokens,
            settings=job.recipe.compress.distill,
            progress=job.progress,
        )

    @cached_property
    def answers(self) -> tuple[list[RowOutput], list[RowOutput]]:
        """The merged model's to the choosing and to the judging texts."""
        path, texts = self._folder / ANSWERS, self._gate_texts()
        if path.exists():
            with np.load(path, allow_pickle=False) as saved:
                outputs = unpack(saved)
        else:
            outputs = self._answer(self.model, texts)
            aside = path.with_name(f".{ANSWERS}")
            with aside.open("wb") as stream:
                np.savez(stream, **pack(outputs))
            os.replace(aside, path)
        count = len(self._job.choosing_texts)
        return outputs[:count], outputs[count:]

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
        if name == MERGED:
            model, texts = self.model, self._gate_texts()
            outputs = [*self.answers[0], *self.answers[1]]
        else:
            job.progress(f"teaching {name}")
            model, texts = STUDENTS[name](self.lesson), job.choosing_texts
            outputs = self._answer(model, texts)
        job.progress(f"exporting the {name} model to ONNX")
        exporter = export_merged(model, folder / MODEL)
        shutil.copyfile(job.merged_folder / TOKENIZER, folder / TOKENIZER)
        parity = self._prove(folder, model, texts, outputs)
        job.progress(
            f"exported by {exporter}: largest difference {parity.max_abs_difference:.1e} on "
            f"{parity.rows} texts"
        )
        return Made(exporter=exporter, parity=parity)

    def _prove(
        self,
        folder: Path,
        model: Merged,
        texts: Sequence[TextInput],
        outputs: Sequence[RowOutput],
    ) -> Parity:
        encoded = [model.encode(text, self._job.max_tokens) for text in texts]
        runtime = OnnxModel(folder / MODEL, folder / TOKENIZER, self._job.max_tokens)
        return check_parity(model, runtime, Expected(texts, encoded, outputs), folder / MODEL)

    def _answer(self, model: Merged, texts: Sequence[TextInput]) -> list[RowOutput]:
        encoded = [model.encode(text, self._job.max_tokens) for text in texts]

        def report(done: int) -> None:
            if done % PROGRESS_EVERY_ROWS == 0 or done == len(texts):
                self._job.progress(f"torch model: {done} of {len(texts)} texts answered")

        return model.answer(encoded, report)

    def _gate_texts(self) -> list[TextInput]:
        return [*self._job.choosing_texts, *self._job.judging_texts]

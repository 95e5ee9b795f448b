"""From answers to verdicts: the screening of all candidates on the choosing rows, the finalists'
test on the judging rows, and the record of each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.budget import Figures, excess_ratio, misses
from compress.candidates import source_of
from compress.evaluate import REPEATS, Meter, measurement, timed
from compress.inspect import Inspected, inspect
from compress.job import Job
from compress.quality import assess
from compress.shortlist import Screened, Shortlist, give_up, shortlist
from compress.teacher import Teacher
from edgeloop.errors import EngineError
from edgeloop.records import Measurement
from edgeloop.records_compress import Candidate
from edgeloop.rundir import RECORD_NAME, digest_entries, list_files
from edgeloop.runtime import RowOutput
from edgeloop.statistics import paired_drop

# Choosing rows that every candidate answers before the hopeless ones are given up.
FIRST_ROWS = 128


@dataclass(frozen=True)
class Judge:
    """Compares candidates with the merged model on the same rows."""

    job: Job
    teacher: Teacher

    def screen(self, folders: Mapping[str, Path]) -> tuple[dict[str, Screened], dict[str, str]]:
        """All candidates on the first choosing rows, those that are not given up then on all."""
        meter, count = self._meter(), min(FIRST_ROWS, len(self.job.rows.choosing))
        found, left_out = self._screen(meter, folders, count)
        if count == len(self.job.rows.choosing):
            return found, left_out
        left_out |= give_up(found, self.job.recipe.compress.budget)
        kept = {kind: folders[kind] for kind in found if kind not in left_out}
        found, failures = self._screen(meter, kept, len(self.job.rows.choosing))
        return found, left_out | failures

    def _screen(
        self, meter: Meter, folders: Mapping[str, Path], count: int
    ) -> tuple[dict[str, Screened], dict[str, str]]:
        """On the first `count` choosing rows."""
        job, labels = self.job, self.job.record.labels
        rows = job.rows.choosing[:count]
        texts = job.task.inputs(rows)
        rounds, failures = meter.rounds(folders, [texts], f"screening on {count} rows:")
        confidence = job.recipe.compress.budget.confidence
        reference = self._reference(count)
        expected = job.task.right(reference, rows, labels)
        found = {}
        for kind, (answered,) in rounds.items():
            right = job.task.right(answered.outputs, rows, labels)
            found[kind] = Screened(
                right=right,
                measurement=measurement(folders[kind], [answered], confidence),
                drop=paired_drop(expected, right, confidence),
                quality=assess(job.recipe.task, labels, rows, reference, answered.outputs),
            )
        return found, failures

    def _reference(self, count: int) -> list[RowOutput]:
        """The merged model's answers to the first choosing rows: of vectors, every row has two."""
        outputs, rows = self.teacher.answers[0], len(self.job.rows.choosing)
        parts = range(0, len(outputs), rows)
        return [output for start in parts for output in outputs[start : start + count]]

    def judge(
        self, folders: Mapping[str, Path], screened: Mapping[str, Screened]
    ) -> tuple[Shortlist, tuple[Candidate, ...], dict[str, str]]:
        """Name the finalists; then all answer the judging rows, and the finalists are timed."""
        job = self.job
        named = shortlist(screened, job.recipe.compress, len(job.rows.judging))
        job.progress(f"finalists: {', '.join(named.finalists)}")
        meter = self._meter()
        answered, left_out = meter.rounds(
            {kind: folders[kind] for kind in screened}, [job.judging_texts], "judging"
        )
        finalists = {kind: folders[kind] for kind in named.finalists if kind in answered}
        batches = [timed(job.judging_texts)] * REPEATS
        rounds, failures = meter.rounds(finalists, batches, "timing")
        figures: dict[str, tuple[Measurement, Inspected]] = {}
        for kind in rounds:
            measured = measurement(folders[kind], rounds[kind], named.confidence)
            try:
                figures[kind] = (measured, inspect(job, folders[kind]))
            except EngineError as problem:  # it answered until now; the others go on
                failures[kind] = str(problem)
        expected = job.task.right(self.teacher.answers[1], job.rows.judging, job.record.labels)
        candidates = tuple(
            self._record(named, kind, screened[kind], outputs.outputs, expected, figures.get(kind))
            for kind, (outputs,) in answered.items()
            if kind not in failures
        )
        return named, candidates, left_out | failures

    def _record(
        self,
        named: Shortlist,
        kind: str,
        screened: Screened,
        outputs: list[RowOutput],
        expected: NDArray[np.bool_],
        finalist: tuple[Measurement, Inspected] | None,
    ) -> Candidate:
        """`expected` (judging,): which rows the merged model answers rightly; `finalist`: what was
        measured of a finalist alone, None of the others."""
        measured, inspected = finalist or (None, None)
        job, rows = self.job, self.job.rows
        right = job.task.right(outputs, rows.judging, job.record.labels)
        accuracy = paired_drop(expected, right, named.confidence)
        quality = assess(
            job.recipe.task, job.record.labels, rows.judging, self.teacher.answers[1], outputs
        )
        invariance = None if inspected is None else inspected.invariance
        figures = Figures(
            measured or screened.measurement, accuracy, quality, invariance=invariance
        )
        if measured is None:
            missed = named.expected[kind]
        else:
            missed = misses(figures, job.recipe.compress.budget)
        source = source_of(kind)
        made = None if source is None else self.teacher.made(source)
        candidate = Candidate(
            inputs_digest=job.inputs_digest,
            files=list_files(job.folder / kind),
            kind=kind,
            source=source or kind,
            exporter=None if made is None else made.exporter,
            merged_digest=digest_entries(job.record.files),
            parity=None if made is None else made.parity,
            measurement=figures.measurement,
            screening=screened.drop,
            accuracy=accuracy,
            test_accuracy=float(right[rows.is_test].mean()),
            finalist=measured is not None,
            misses=tuple(miss.text for miss in missed),
            excess_ratio=excess_ratio(missed),
            quality=quality,
            throughput=None if inspected is None else inspected.throughput,
            lint=None if inspected is None else inspected.lint,
            invariance=invariance,
        )
        candidate.write(job.folder / kind / RECORD_NAME)
        return candidate

    def _meter(self) -> Meter:
        return Meter(self.job.max_tokens, self.job.scratch, self.job.progress)

"""What is found out about a finalist besides its speed with one text: throughput on all cores, the
kernels that it runs on, and whether its answers depend on anything but the text.
"""

from dataclasses import dataclass
from pathlib import Path

from compress.evaluate import timed
from compress.invariance import measure_invariance
from compress.job import Job
from compress.lint import lint_kernels
from compress.texts import write_texts
from compress.throughput import best_throughput
from edgeloop.kinds import MODEL, TOKENIZER, kind_of
from edgeloop.machine import describe_machine
from edgeloop.records_compress import Invariance, KernelLint
from edgeloop.records_measured import Throughput

# Per layout of threads.
THROUGHPUT_SECONDS = 2.0
INVARIANCE_ROWS = 64


@dataclass(frozen=True)
class Inspected:
    """lint and invariance are those of a model that is one encoder, else None."""

    throughput: Throughput
    lint: KernelLint | None
    invariance: Invariance | None


def inspect(job: Job, folder: Path) -> Inspected:
    """Raises EngineError where the candidate does not load or answer."""
    texts = timed(job.judging_texts)
    job.progress(f"inspecting {folder.name}")
    throughput = best_throughput(
        folder,
        write_texts(job.scratch / "loaded.json", texts),
        job.max_tokens,
        describe_machine().cores,
        THROUGHPUT_SECONDS,
    )
    if kind_of(folder).engine != "onnx":
        return Inspected(throughput, None, None)
    invariance = measure_invariance(
        folder / MODEL,
        folder / TOKENIZER,
        texts[:INVARIANCE_ROWS],
        job.task,
        job.record.labels,
        job.max_tokens,
    )
    return Inspected(throughput, lint_kernels(folder / MODEL), invariance)

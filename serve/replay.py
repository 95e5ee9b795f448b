"""What a loaded bundle must show before it serves: the golden rows, answered as it promises, and in
a swap also in time.
"""

import math
import time
from concurrent.futures import wait

from edgeloop.bundle import Bundle, GoldenRow
from edgeloop.errors import BundleError
from edgeloop.golden import agrees
from edgeloop.rows import TextInput
from edgeloop.tasks import TASKS
from serve.engine import Engine
from serve.jobs import Job, Scored

GOLDEN_AGREEMENT_RATIO = 0.98
GOLDEN_TIMEOUT_SECONDS = 60.0
LATENCY_QUANTILE = 0.95
LATENCY_TRIES = 2


class ActivationError(BundleError):
    """A bundle that may not serve; `reason` is the step that failed, one of
    metrics.SWAP_OUTCOMES."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def replay_golden(bundle: Bundle, engine: Engine, queue_texts: int) -> float:
    """The share of golden rows that the engine answers as the bundle says, at least
    GOLDEN_AGREEMENT_RATIO; it warms the engine as well. Raises ActivationError (golden)."""
    manifest = bundle.manifest
    task = TASKS[manifest.task]
    try:
        rows = bundle.golden()
        answers = [
            answer
            for start in range(0, len(rows), queue_texts)
            for answer in _ask(engine, [row.input for row in rows[start : start + queue_texts]])
        ]
        agreed = sum(
            agrees(row, answer.output, task, manifest.labels)
            for row, answer in zip(rows, answers, strict=True)
        )
    except Exception as problem:
        raise ActivationError(
            "golden", f"{bundle.path}: the golden rows cannot be replayed ({problem})"
        ) from problem
    if not rows or agreed / len(rows) < GOLDEN_AGREEMENT_RATIO:
        raise ActivationError(
            "golden",
            f"{bundle.path}: {agreed} of {len(rows)} golden rows get the answer that the bundle "
            f"promises, at least {GOLDEN_AGREEMENT_RATIO:.0%} must; build the bundle again on a "
            "machine like this one",
        )
    return agreed / len(rows)


def check_latency(bundle: Bundle, engine: Engine, workers: int) -> None:
    """Ask the golden rows again of the warm engine, `workers` at a time: 95 % must be tokenized and
    scored within the manifest's deadline, or no request could be answered in time.

    The other bundle answers its traffic meanwhile, so one slow round may be the machine's: the
    better of LATENCY_TRIES rounds counts. Raises ActivationError (latency, golden).
    """
    rows = bundle.golden()
    try:
        p95_seconds = _p95(rows, engine, workers)
        for _ in range(LATENCY_TRIES - 1):
            if 1000.0 * p95_seconds > bundle.manifest.deadline_ms:
                p95_seconds = min(p95_seconds, _p95(rows, engine, workers))
    except Exception as problem:
        raise ActivationError(
            "golden", f"{bundle.path}: the golden rows cannot be replayed ({problem})"
        ) from problem
    if 1000.0 * p95_seconds > bundle.manifest.deadline_ms:
        raise ActivationError(
            "latency",
            f"{bundle.path}: the golden rows take {1000.0 * p95_seconds:.1f} ms (p95), the "
            f"bundle's deadline is {bundle.manifest.deadline_ms} ms; serve a smaller candidate, or "
            "raise serve.deadline_ms in the recipe and build the bundle again",
        )


def _p95(rows: tuple[GoldenRow, ...], engine: Engine, workers: int) -> float:
    """The nearest-rank p95 of tokenizing and scoring one row, in seconds."""
    seconds = sorted(
        answer.inference_seconds
        for start in range(0, len(rows), workers)
        for answer in _ask(engine, [row.input for row in rows[start : start + workers]])
    )
    return seconds[math.ceil(LATENCY_QUANTILE * len(seconds)) - 1]


def _ask(engine: Engine, texts: list[TextInput]) -> list[Scored]:
    deadline = time.monotonic() + GOLDEN_TIMEOUT_SECONDS
    job = Job(texts, truncate=True, deadline=deadline, may_cache=False)
    engine.submit(job)
    wait([job.future], timeout=GOLDEN_TIMEOUT_SECONDS)
    return job.future.result(timeout=0)

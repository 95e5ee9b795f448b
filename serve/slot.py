"""The deployment that answers: a bundle, its engine and its observer, swapped as one.

A request keeps the deployment that admitted it until it is answered; a retired deployment stops
its threads after its last request. Slot and Active belong to the event loop; `activate` is heavy
and runs in a thread.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import BundleError
from edgeloop.golden import agrees
from edgeloop.machine import describe_machine, isa_warning
from edgeloop.observer import Observer
from edgeloop.records import Verdict
from edgeloop.rows import TextInput
from edgeloop.signing import verify_apart
from edgeloop.tasks import TASKS
from serve.autotune import shared
from serve.engine import Engine, open_engine
from serve.feed import Feed
from serve.jobs import Job, Scored
from serve.metrics import ServeMetrics

logger = logging.getLogger(__name__)

GOLDEN_AGREEMENT_RATIO = 0.98
GOLDEN_TIMEOUT_SECONDS = 60.0


class ActivationError(BundleError):
    """A bundle that may not serve; `reason` is verify, signature, load or golden."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Active:
    """A deployment with a count of the requests that it answers."""

    def __init__(
        self, bundle: Bundle, engine: Engine, feed: Feed, isa_differs: bool = False
    ) -> None:
        self.bundle = bundle
        self.isa_differs = isa_differs
        self.engine = engine
        self.feed = feed
        self.class_names = TASKS[bundle.manifest.task].class_names(bundle.manifest.labels)
        self._requests = 0
        self._retired = False

    def __enter__(self) -> "Active":
        self._requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._requests -= 1
        self._close_if_done()

    def retire(self) -> None:
        """Take no more requests; the threads stop after the last one."""
        self._retired = True
        self._close_if_done()

    def close(self) -> None:
        """Let the threads stop when their queues are empty; returns at once."""
        self.engine.close()
        self.feed.close()

    def join(self, timeout_seconds: float) -> None:
        """Wait until a closed deployment has stopped."""
        end = time.monotonic() + timeout_seconds
        self.engine.join(timeout_seconds)
        self.feed.join(max(0.0, end - time.monotonic()))

    def _close_if_done(self) -> None:
        if self._retired and self._requests == 0:
            self.close()


class Slot:
    """Holds the deployment that answers now."""

    def __init__(self, active: Active, metrics: ServeMetrics) -> None:
        self.current = active
        self._metrics = metrics
        metrics.show_bundle(active.bundle, active.isa_differs)

    def swap(self, active: Active) -> None:
        """Let another deployment answer from now on. Call it on the event loop only: there no
        request stands between its look at `current` and its admission."""
        old, self.current = self.current, active
        self._metrics.show_bundle(active.bundle, active.isa_differs)
        old.retire()


@dataclass(frozen=True)
class Activator:
    """Makes deployments from bundle folders."""

    make_observer: Callable[[Bundle], Observer]
    on_verdict: Callable[[Verdict], None]
    metrics: ServeMetrics
    workers: int
    queue_texts: int
    cache_texts: int = 0

    def activate(self, bundle: Bundle) -> Active:
        """Load a verified bundle aside, and replay its golden rows on every thread.

        Raises ActivationError with the step that failed.
        """
        started = time.monotonic()
        try:
            engine = open_engine(bundle, shared(self.workers), self.queue_texts, self.cache_texts)
        except Exception as problem:
            raise ActivationError("load", f"{bundle.path}: {problem}") from problem
        try:
            agreement = replay_golden(bundle, engine, self.queue_texts)
            observer = self._observer(bundle)
        except ActivationError:
            engine.close()
            raise
        logger.info(
            "event=bundle_ready bundle=%s golden_agreement_ratio=%.4f seconds=%.3f",
            bundle.digest[:12],
            agreement,
            time.monotonic() - started,
        )
        feed = Feed(observer, self.on_verdict, self.metrics)
        return Active(bundle, engine, feed, _warn_of_other_isa(bundle))

    def _observer(self, bundle: Bundle) -> Observer:
        try:
            return self.make_observer(bundle)
        except Exception as problem:
            raise ActivationError(
                "load", f"{bundle.path}: the drift monitor does not start ({problem})"
            ) from problem


def _warn_of_other_isa(bundle: Bundle) -> bool:
    """Was the bundle certified on a machine with other instructions than this one's?"""
    warning = isa_warning(bundle.manifest.machine, describe_machine())
    if warning is not None:
        logger.warning("event=other_isa bundle=%s problem=%r", bundle.digest[:12], warning)
    return warning is not None


def verify_bundle(
    path: Path,
    model: str | None = None,
    digest: str | None = None,
    public_key: Path | None = None,
) -> Bundle:
    """Open a bundle, and check that it is the expected model and digest and signed with the key's
    other half, where they are given.

    Raises ActivationError (verify, signature).
    """
    try:
        bundle = open_bundle(path)
    except BundleError as problem:
        raise ActivationError("verify", str(problem)) from problem
    if model is not None and bundle.manifest.name != model:
        raise ActivationError(
            "verify", f"{path}: is a bundle of {bundle.manifest.name}, this server serves {model}"
        )
    if digest is not None and bundle.digest != digest:
        raise ActivationError(
            "verify",
            f"{path}: has the digest {bundle.digest}, the ledger deployed {digest}; "
            "deploy the bundle again",
        )
    if public_key is not None:
        try:
            verify_apart(path, public_key)
        except BundleError as problem:
            raise ActivationError("signature", str(problem)) from problem
    return bundle


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


def _ask(engine: Engine, texts: list[TextInput]) -> list[Scored]:
    deadline = time.monotonic() + GOLDEN_TIMEOUT_SECONDS
    job = Job(texts, truncate=True, deadline=deadline)
    engine.submit(job)
    wait([job.future], timeout=GOLDEN_TIMEOUT_SECONDS)
    return job.future.result(timeout=0)

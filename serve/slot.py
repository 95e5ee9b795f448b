"""The deployment that answers: a bundle, its engine and its observer, swapped as one.

A request keeps the deployment that admitted it until it is answered; a retired deployment stops
its threads after its last request. Slot and Active belong to the event loop; `activate` is heavy
and runs in a thread. Who swaps what, and when, is in serve/deployments.py.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.types import Scope

from edgeloop.bundle import Bundle, open_bundle
from edgeloop.errors import BundleError
from edgeloop.machine import describe_machine, isa_warning
from edgeloop.observer import Observer
from edgeloop.records import Verdict
from edgeloop.signing import verify_apart
from edgeloop.tasks import TASKS
from serve.autotune import Threads
from serve.engine import Engine, open_engine
from serve.feed import Feed
from serve.golden_run import GoldenRun
from serve.jobs import Job, Scored
from serve.metrics import CANARY, VARIANT, ServeMetrics
from serve.replay import ActivationError as ActivationError
from serve.replay import check_latency, replay_golden
from serve.state import StateFolder
from serve.trial import Trial
from serve.wire import header
from serve.worker_pool import WorkerPool

logger = logging.getLogger(__name__)

# Where a request's variant stands in its ASGI scope, for the metrics.
VARIANT_KEY = "edgeloop.variant"


class Active:
    """A deployment with a count of the requests that it answers."""

    def __init__(
        self, bundle: Bundle, engine: Engine, feed: Feed, isa_differs: bool = False
    ) -> None:
        self.bundle = bundle
        self.isa_differs = isa_differs
        self.engine = engine
        self.feed = feed
        self.variant = VARIANT
        self.golden: GoldenRun | None = None  # the last replay while serving (golden_watch)
        self.label_position: int | None = None  # up to which labels were taken (labels)
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
        """Take no more requests; the threads stop after the last one, and its drift state is
        nobody's any more."""
        self._retired = True
        self.feed.forget()
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
    """Holds the deployment that answers now, the one from before, which stays loaded, and what is
    on trial. To be called on the event loop only: there no request stands between its look and its
    admission."""

    def __init__(self, active: Active, metrics: ServeMetrics, keep_previous: bool = True) -> None:
        self.current = active
        self.previous: Active | None = None
        self.canary: Trial | None = None
        self.shadow: Trial | None = None
        self._keep_previous = keep_previous
        self._metrics = metrics
        metrics.show_bundle(active.bundle, active.isa_differs)

    def admit(self, scope: Scope, body: bytes) -> Active:
        """The deployment that answers this request: the canary for its clients."""
        if self.canary is None or not self.canary.has_client(client_key(scope, body)):
            return self.current
        scope[VARIANT_KEY] = CANARY
        return self.canary.active

    def failed(self, active: Active, job: Job, reason: str, own_deadline: bool) -> None:
        """A deployment did not answer a request. It shows nothing where the client's own deadline
        passed, or where it was refused for one of several texts: which one is not known here."""
        if reason == "deadline" and own_deadline:
            return
        if reason != "invalid" or len(job.texts) == 1:
            self.answered(active, job, None)

    def answered(self, active: Active, job: Job, answers: Sequence[Scored] | None) -> None:
        """Hand what a deployment answered, None where it failed, to what is on trial."""
        if self.canary is not None and active is self.canary.active:
            self.canary.offer(job, answers)
        elif self.shadow is not None and active is self.current and self.shadow.sampled():
            self.shadow.offer(job, answers)

    def swap(self, active: Active) -> None:
        """Let another deployment answer from now on; the old one becomes the previous one."""
        older, self.previous = self.previous, self.current
        self._let_answer(active)
        if older is not None and older is not active:
            older.retire()
        self.keep_previous(self._keep_previous)

    def roll_back(self) -> bool:
        """Let the two change places; False where there is none from before that can answer."""
        previous = self.previous
        if previous is None or not previous.engine.healthy():
            return False
        self.swap(previous)
        return True

    def keep_previous(self, keep: bool) -> None:
        """Keep the one from before loaded, or let it go."""
        self._keep_previous = keep
        if not keep and self.previous is not None:
            self.previous.retire()
            self.previous = None

    def trial(self, variant: str) -> Trial | None:
        """What is on trial as canary or shadow."""
        return self.canary if variant == CANARY else self.shadow

    def put_on_trial(self, trial: Trial) -> None:
        """Let a trial begin."""
        setattr(self, trial.variant, trial)
        self._metrics.show_bundle(trial.active.bundle, trial.active.isa_differs, trial.variant)
        self._metrics.trials.show(trial.variant, trial.judge.standing())

    def end_trial(self, variant: str) -> Trial | None:
        """Take a trial out; its deployment is the caller's to retire or to swap in."""
        trial = self.trial(variant)
        setattr(self, variant, None)
        self._metrics.hide_bundle(variant)
        self._metrics.trials.show(variant, None)
        return trial

    def deployments(self) -> list[Active]:
        """All that are loaded."""
        trials = [trial.active for trial in (self.canary, self.shadow) if trial is not None]
        return [self.current, *([] if self.previous is None else [self.previous]), *trials]

    def _let_answer(self, active: Active) -> None:
        self.current = active
        active.variant = VARIANT
        self._metrics.show_bundle(active.bundle, active.isa_differs)


def client_key(scope: Scope, body: bytes) -> bytes:
    """What keeps a client with its variant: its id, or else its request's, or else the request."""
    return header(scope, b"x-client-id") or header(scope, b"x-request-id") or body


@dataclass
class Activator:
    """Makes deployments from bundle folders. `pool`: the processes that run their models, where
    the server's own threads do not."""

    make_observer: Callable[[Bundle], Observer]
    on_verdict: Callable[[Verdict], None]
    metrics: ServeMetrics
    threads: Threads
    queue_texts: int
    cache_texts: int = 0
    state: StateFolder | None = None
    pool: WorkerPool | None = None

    def activate(self, bundle: Bundle, judge_latency: bool = False) -> Active:
        """Load a verified bundle aside, and replay its golden rows on every thread; with
        `judge_latency` they must be answered within the bundle's deadline.

        Raises ActivationError with the step that failed.
        """
        started = time.monotonic()
        try:
            engine = open_engine(
                bundle, self.threads, self.queue_texts, self.cache_texts, self.pool
            )
        except Exception as problem:
            raise ActivationError("load", f"{bundle.path}: {problem}") from problem
        try:
            agreement = replay_golden(bundle, engine, self.queue_texts)
            if judge_latency:
                check_latency(bundle, engine, min(self.threads.layout.workers, self.queue_texts))
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
        keeper = None if self.state is None else self.state.drift(bundle.digest)
        feed = Feed(observer, self.on_verdict, self.metrics, keeper=keeper)
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

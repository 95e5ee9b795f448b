"""What the console shows of a running server: counters and buckets since its start, of which the
page takes differences, and who serves. No text of a client, none of a verdict's words, no path.
"""

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample

from edgeloop.naming import metric_name
from serve.deployments import Change, Deployments
from serve.dialects.routes import ROUTES
from serve.metrics import SECONDS, SHADOW
from serve.slot import Active
from serve.trial import Trial

SHOWN_CHANGES = 20
# Other routes are not what the server is there for, and the page's own polls are among them.
ANSWER_ROUTES = frozenset(r.label for r in ROUTES.values() if r.dialect is not None)
_BUCKET = "_bucket"
REQUESTS = metric_name("request_duration", "seconds") + _BUCKET
WAITS = metric_name("queue_wait", "seconds") + _BUCKET
INFERENCES = metric_name("inference", "seconds") + _BUCKET
REJECTED = metric_name("rejected", total=True)
ABSTAINED = metric_name("abstained", total=True)
STAGES = metric_name("stage_answers", total=True)
INFLIGHT = metric_name("inflight_requests")
DROPPED = metric_name("monitor_dropped", total=True)
NAMES = (REQUESTS, WAITS, INFERENCES, REJECTED, ABSTAINED, STAGES, INFLIGHT, DROPPED)


class Traffic(msgspec.Struct):
    """Since the start; a list has a cumulative count for each of `bounds_seconds`, and the last one
    of all. Requests for answers, and texts: how long they waited for a thread, and were computed.
    `inflight` and `queued_texts` are of this moment."""

    bounds_seconds: tuple[float, ...]
    requests: list[int]
    waits: list[int]
    inferences: list[int]
    rejected: dict[str, int]
    abstained: int
    stages: dict[str, int]
    inflight: int
    queued_texts: int


class Served(msgspec.Struct):
    """A bundle that is loaded."""

    digest: str
    candidate: str
    created_at: str
    healthy: bool


class Drift(msgspec.Struct):
    """Where the drift monitor of the current bundle stands. `log_evidence`: null where it is not a
    finite number."""

    armed: bool
    alarmed: bool
    alarms: int
    observations: int
    pending: int
    dropped: int
    log_evidence: float | None
    threshold: float
    target_run_length: int


class OnTrial(msgspec.Struct):
    """A canary or a shadow: its evidence so far, and how much of it is a verdict. `questions`:
    worse and fine for each."""

    variant: str
    bundle: Served
    share: float
    compared: int
    least_answers: int
    dropped: int
    passed: bool
    worse: float
    fine: float
    needed_evidence: float
    questions: dict[str, dict[str, float]]


class Changed(msgspec.Struct):
    """A line of the history. `bundle`: its folder's name. `reason`: why a bundle that was loaded
    came or went; that of a refusal may name paths, and stays in the log."""

    at: str
    kind: str
    source: str
    outcome: str
    digest: str | None
    bundle: str
    reason: str
    seconds: float


class State(msgspec.Struct):
    """The whole document. `status`: ok, draining or unhealthy; `busy`: a bundle is being loaded.
    `uptime_seconds`: from the same clock for every poll."""

    model: str
    status: str
    uptime_seconds: float
    busy: bool
    current: Served
    previous: Served | None
    traffic: Traffic
    drift: Drift
    trials: list[OnTrial]
    history: list[Changed]


class StateReader:
    """Reads one server's. Lives on the event loop, as what it reads does."""

    def __init__(self, deployments: Deployments, draining: Callable[[], bool]) -> None:
        self._deployments = deployments
        self._draining = draining
        self._started = time.monotonic()

    def read(self) -> State:
        """The state of this moment."""
        deployments, slot = self._deployments, self._deployments.slot
        samples = read_samples(deployments.metrics.registry)
        trials = (slot.canary, slot.shadow)
        changes = list(deployments.history)[-SHOWN_CHANGES:]
        return State(
            model=deployments.metrics.model,
            status=self._status(slot.current),
            uptime_seconds=time.monotonic() - self._started,
            busy=deployments.busy(),
            current=_served(slot.current),
            previous=None if slot.previous is None else _served(slot.previous),
            traffic=_traffic(samples, slot.current),
            drift=_drift(slot.current, total(samples, DROPPED)),
            trials=[_on_trial(trial) for trial in trials if trial is not None],
            history=[_changed(change) for change in reversed(changes)],
        )

    def _status(self, current: Active) -> str:
        if self._draining():
            return "draining"
        return "ok" if current.engine.healthy() else "unhealthy"


def read_samples(registry: CollectorRegistry) -> list[Sample]:
    """Those of NAMES, from their own collectors alone."""
    families = registry.restricted_registry(NAMES).collect()
    return [sample for family in families for sample in family.samples]


def _traffic(samples: Iterable[Sample], current: Active) -> Traffic:
    return Traffic(
        bounds_seconds=SECONDS,
        requests=cumulative(samples, REQUESTS),
        waits=cumulative(samples, WAITS),
        inferences=cumulative(samples, INFERENCES),
        rejected=by_label(samples, REJECTED, "reason"),
        abstained=total(samples, ABSTAINED),
        stages=by_label(samples, STAGES, "stage"),
        inflight=max(0, total(samples, INFLIGHT) - 1),  # but for the one that asks
        queued_texts=current.engine.queued_texts(),
    )


def cumulative(samples: Iterable[Sample], name: str) -> list[int]:
    """A histogram's cumulative counts over all routes that answer."""
    counts: dict[str, float] = {}
    for sample in samples:
        labels = sample.labels
        if sample.name != name or labels["variant"] == SHADOW:
            continue
        if labels.get("route") in ANSWER_ROUTES or name != REQUESTS:
            counts[labels["le"]] = counts.get(labels["le"], 0.0) + sample.value
    return [int(count) for count in counts.values()]


def by_label(samples: Iterable[Sample], name: str, label: str) -> dict[str, int]:
    """A counter's values by a label, those above 0; what a shadow did is not counted."""
    found: dict[str, int] = {}
    for sample in samples:
        if sample.name == name and sample.value and sample.labels.get("variant") != SHADOW:
            key = sample.labels[label]
            found[key] = found.get(key, 0) + int(sample.value)
    return found


def total(samples: Iterable[Sample], name: str) -> int:
    """A counter's value over all its labels, but for what a shadow did."""
    return sum(by_label(samples, name, "model").values())


def _served(active: Active) -> Served:
    manifest = active.bundle.manifest
    digest, healthy = active.bundle.digest, active.engine.healthy()
    return Served(digest, manifest.candidate, manifest.created_at, healthy)


def _drift(active: Active, dropped: int) -> Drift:
    status = active.feed.observer.status()
    evidence = status.log_evidence
    return Drift(
        armed=status.armed,
        alarmed=status.alarmed,
        alarms=status.alarms,
        observations=status.observations,
        pending=active.feed.pending(),
        dropped=dropped,
        log_evidence=evidence if math.isfinite(evidence) else None,
        threshold=status.threshold,
        target_run_length=status.target_run_length,
    )


def _on_trial(trial: Trial) -> OnTrial:
    standing = trial.judge.standing()
    return OnTrial(
        variant=trial.variant,
        bundle=_served(trial.active),
        share=trial.rules.share,
        compared=standing.compared,
        least_answers=trial.rules.least_answers,
        dropped=trial.dropped,
        passed=trial.passed,
        worse=standing.worse,
        fine=standing.fine,
        needed_evidence=1.0 / trial.rules.alpha,
        questions={side: _judged(trial, found) for side, found in standing.questions.items()},
    )


def _judged(trial: Trial, found: dict[str, float]) -> dict[str, float]:
    """Without those that the operator left out."""
    left_out = () if trial.rules.agreement is not None else ("agreement",)
    return {question: value for question, value in found.items() if question not in left_out}


def _changed(change: Change) -> Changed:
    return Changed(
        at=change.at,
        kind=change.kind,
        source=change.source,
        outcome=change.outcome,
        digest=change.digest,
        bundle=Path(change.path).name,
        reason="" if change.digest is None else change.reason,
        seconds=change.seconds,
    )

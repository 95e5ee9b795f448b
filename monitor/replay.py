"""Sends stored texts through a running server, or through a bundle without one, and tells what
the drift monitor made of them. Command: `edgeloop monitor replay FILE`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from edgeloop.bundle import Bundle
from edgeloop.errors import MonitorError, RecipeError
from edgeloop.models import open_model
from edgeloop.observer import ObserverStatus, observed
from edgeloop.records import Verdict
from edgeloop.tasks import TASKS, Task
from monitor.observer import DriftObserver

logger = logging.getLogger(__name__)

POLL_EVERY_REQUESTS = 10
REQUEST_TIMEOUT_SECONDS = 30.0
# The server hands texts to its monitor after answering: the last ones may still be on their way.
SETTLE_SECONDS = 5.0
SETTLE_POLL_SECONDS = 0.05
PROGRESS_SECONDS = 2.0

Row = tuple[str, str, str | None]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class ReplayResult:
    """What came of a replay.

    `accuracy` is over answered rows with a label. `verdict` is an alarm that this traffic raised,
    `requests_until_alarm` counts from its first row. `alarmed_before`: the monitor stood at an
    alarm already, so that no new one could come. Where `armed` is false the monitor counts but
    never alarms. `evidence` is (observation, log evidence).
    """

    sent: int
    failed: int
    accuracy: float | None
    verdict: Verdict | None
    requests_until_alarm: int | None
    alarmed_before: bool
    armed: bool
    log_evidence: float
    threshold: float
    evidence: tuple[tuple[int, float], ...]


@dataclass
class _Tally:
    """Counts of a replay under way."""

    total: int
    progress: Progress
    sent: int = 0
    failed: int = 0
    problem: str = ""
    labelled: int = 0
    correct: int = 0
    verdict: Verdict | None = None
    until_alarm: int | None = None
    evidence: list[tuple[int, float]] = field(default_factory=list)
    said: float = field(default_factory=time.monotonic)

    def answered(self, label: str | None, predicted: str | None) -> None:
        """Count a row; `predicted` is None where the request failed."""
        self.sent += 1
        self.failed += predicted is None
        if label is not None and predicted is not None:
            self.labelled += 1
            self.correct += label == predicted
        if time.monotonic() - self.said >= PROGRESS_SECONDS or self.sent == self.total:
            self.said = time.monotonic()
            self.progress(f"replay: {self.sent} of {self.total} sent, {self.failed} failed")

    def result(self, status: ObserverStatus, alarmed_before: bool) -> ReplayResult:
        """The counts with the monitor's last word."""
        return ReplayResult(
            sent=self.sent,
            failed=self.failed,
            accuracy=self.correct / self.labelled if self.labelled else None,
            verdict=self.verdict,
            requests_until_alarm=self.until_alarm,
            alarmed_before=alarmed_before,
            armed=status.armed,
            log_evidence=status.log_evidence,
            threshold=status.threshold,
            evidence=tuple(self.evidence),
        )


def replay(
    rows: Sequence[Row], url: str, progress: Progress, stop_at_alarm: bool = False
) -> ReplayResult:
    """Send every row's text to POST /v1/predict, one by one, and follow GET /drift.

    A request that fails is counted, the replay goes on. Raises RecipeError where `url` is none or
    the model answers something else than labels of single texts, MonitorError where the server's
    /drift and /info do not answer, or where every request failed.
    """
    tally = _Tally(len(rows), progress)
    with _client(url) as client:
        start = _settled(client)
        task = _check_model(client)
        tally.evidence.append((start.status.observations, start.status.log_evidence))
        for row_id, text, label in rows:
            tally.answered(_sorted(task, label), _predict(client, row_id, text, tally))
            if tally.sent % POLL_EVERY_REQUESTS == 0:
                _note(tally, start, _drift(client))
                if stop_at_alarm and tally.verdict is not None:
                    break
        end = _settled(client)
        _note(tally, start, end)
    if tally.failed == tally.sent > 0:
        raise MonitorError(
            f"{url}: all {tally.sent} requests to /v1/predict failed ({tally.problem}); nothing "
            "was replayed. The server's log tells more"
        )
    return tally.result(end.status, start.status.alarmed)


def _client(url: str) -> httpx.Client:
    try:
        return httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_SECONDS)
    except httpx.InvalidURL as problem:
        raise RecipeError(f"{url}: is no URL ({problem}); http://127.0.0.1:8080 is one") from None


@dataclass(frozen=True)
class _Drift:
    """One answer of GET /drift."""

    status: ObserverStatus
    pending: int
    bundle_digest: str
    verdict: Verdict | None


def _predict(client: httpx.Client, row_id: str, text: str, tally: _Tally) -> str | None:
    """The answer as `Row.label` has it, None where the request failed; `tally` keeps why."""
    try:
        # A header takes ASCII only; the server makes an id of its own for an unfit one.
        headers = {"x-request-id": row_id.encode("ascii", "replace").decode()}
        answer = client.post(
            "/v1/predict", json={"inputs": text, "truncate": True}, headers=headers
        ).raise_for_status()
        return "|".join(sorted(answer.json()["predictions"][0]["labels"]))
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as problem:
        tally.problem = str(problem).splitlines()[0] if str(problem) else repr(problem)
        logger.warning("event=request_failed row=%s problem=%r", row_id, problem)
        return None


def _drift(client: httpx.Client) -> _Drift:
    try:
        return _read_drift(client.get("/drift").raise_for_status().json())
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as problem:
        raise _no_server(client, "/drift", problem) from None


def _check_model(client: httpx.Client) -> Task:
    try:
        document = client.get("/info").raise_for_status().json()
        task, text_pair = str(document["task"]), bool(document["text_pair"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as problem:
        raise _no_server(client, "/info", problem) from None
    return check_replayable(task, text_pair)


def _no_server(client: httpx.Client, path: str, problem: Exception) -> MonitorError:
    return MonitorError(
        f"{client.base_url}: GET {path} does not answer as an edgeloop server does "
        f"({problem}); start one with `edgeloop serve`, or replay with --bundle"
    )


def check_replayable(task: str, text_pair: bool) -> Task:
    """The task of that name. Raises RecipeError where its models answer something else than labels
    of single texts."""
    if task not in TASKS or TASKS[task].read_label("") is None:
        raise RecipeError(
            f"this model's task is {task}; a replay takes rows of a text and its labels, for "
            "classification. Send the model's own requests and look at GET /drift"
        )
    if text_pair:
        raise RecipeError(
            "this model reads pairs of texts, a replay sends single ones. Send the model's own "
            "requests and look at GET /drift"
        )
    return TASKS[task]


def _sorted(task: Task, label: str | None) -> str | None:
    """A file's label in the form of `Row.label`: several may come in any order."""
    return None if label is None else "|".join(sorted(task.read_label(label) or ()))


def _read_drift(document: dict[str, Any]) -> _Drift:
    verdict = document["verdict"]
    names = ObserverStatus.__dataclass_fields__
    return _Drift(
        # An older server does not say all of it.
        status=ObserverStatus(**{name: document[name] for name in names if name in document}),
        pending=int(document["pending_observations"]),
        bundle_digest=str(document["bundle_digest"]),
        verdict=None if verdict is None else Verdict.model_validate(verdict, strict=False),
    )


def _settled(client: httpx.Client) -> _Drift:
    """The monitor's word once it has seen every answered text, or after SETTLE_SECONDS."""
    end = time.monotonic() + SETTLE_SECONDS
    while (drift := _drift(client)).pending and time.monotonic() < end:
        time.sleep(SETTLE_POLL_SECONDS)
    return drift


def _note(tally: _Tally, start: _Drift, drift: _Drift) -> None:
    """Take over the evidence, and a verdict that was not there at the start."""
    tally.evidence.append((drift.status.observations, drift.status.log_evidence))
    if drift.verdict is None or drift.verdict == start.verdict or tally.verdict is not None:
        return
    tally.verdict = drift.verdict
    # Another bundle than at the start counts its observations from its own activation.
    same = drift.bundle_digest == start.bundle_digest
    tally.until_alarm = (
        drift.verdict.observation - start.status.observations if same else tally.sent
    )


def replay_offline(
    rows: Sequence[Row], bundle: Bundle, progress: Progress, stop_at_alarm: bool = False
) -> ReplayResult:
    """The same without a server: model and monitor of the bundle in this process.

    Raises RecipeError where the model answers something else than labels of single texts,
    EngineError where it does not load, MonitorError where the reference does not.
    """
    manifest = bundle.manifest
    task = check_replayable(manifest.task, manifest.text_pair)
    observer = DriftObserver(bundle)
    model = open_model(bundle.path, manifest.max_tokens)
    tally = _Tally(len(rows), progress)
    for _, text, label in rows:
        answered = model.answer(text)
        seen = observed(text, answered, task, manifest.labels)
        verdict = observer.observe(seen)
        tally.answered(_sorted(task, label), seen.answer.label)
        status = observer.status()
        tally.evidence.append((status.observations, status.log_evidence))
        if verdict is not None:
            tally.verdict, tally.until_alarm = verdict, tally.sent
            if stop_at_alarm:
                break
    return tally.result(observer.status(), alarmed_before=False)

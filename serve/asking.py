"""One request's texts on their way through an engine and back, by callbacks on the event loop: no
task, and nothing that waits, so that a request costs the loop as little as it can.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.observer import Observation
from edgeloop.rows import whole_text
from serve.dialects.dialect import Asked, Dialect, Reply, TextRequest
from serve.jobs import Expired, Job, QueueFull, Scored, TooLong, Unhealthy
from serve.refused import Refused, retry_after
from serve.slot import Active
from serve.wire import ClientGone, Exchange, Headers, check_content_type, milliseconds

if TYPE_CHECKING:
    from serve.predict import Predict

logger = logging.getLogger(__name__)

RETRY_AFTER_LEAST_SECONDS = 0.05

# The reply and the headers that go with it, or why there is none: Refused, ClientGone, or what
# nobody expected.
Outcome = tuple[Reply, Headers] | Exception


class Asking:
    """Calls `done` with the outcome, once, on the event loop."""

    __slots__ = (
        "_active",
        "_dialect",
        "_done",
        "_exchange",
        "_gone",
        "_job",
        "_loop",
        "_own_deadline",
        "_predict",
        "_request",
        "_timer",
    )

    def __init__(
        self,
        predict: "Predict",
        dialect: Dialect[Any],
        exchange: Exchange,
        done: Callable[[Outcome], None],
    ) -> None:
        self._predict = predict
        self._dialect = dialect
        self._exchange = exchange
        self._done = done
        self._gone = self._own_deadline = False
        self._active: Active | None = None
        self._request: TextRequest | None = None
        self._job: Job | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, names: Mapping[str, str], scope: Scope, body: bytes) -> None:
        """Admit the request with its whole body. `done` may have been called at the return."""
        try:
            self._admit(names, scope, body)
        except Exception as problem:
            self._fail(problem)
            return
        self._submit()

    def client_gone(self) -> None:
        """Nobody waits for the answer any more: what no thread has taken yet, none will."""
        self._gone = True
        if self._active is not None and self._job is not None:
            self._active.engine.expire(self._job)

    def _admit(self, names: Mapping[str, str], scope: Scope, body: bytes) -> None:
        headers, slot = self._exchange.headers, self._predict.slot
        check_content_type(headers.get(b"content-type"))
        timeout_seconds = client_timeout(headers.get(b"x-request-timeout-ms"))
        # Who asks for a version by its digest is no canary's client.
        active = slot.current if "version" in names else slot.admit(scope, body)
        self._active = active.__enter__()
        asked = Asked(body, headers, names, active.variant)
        request = self._dialect.parse(asked, active.bundle, self._predict.max_batch_texts)
        own_seconds = min(timeout_seconds, request.timeout_seconds)
        left_seconds = min(active.bundle.manifest.deadline_ms / 1000.0, own_seconds)
        self._request, self._own_deadline = request, own_seconds < math.inf
        self._job = Job(request.texts, request.truncate, time.monotonic() + left_seconds)

    def _submit(self) -> None:
        active, job = self._active, self._job
        assert active is not None
        assert job is not None
        try:
            active.engine.submit(job)
        except Exception as problem:
            self._fail(self._told(problem, active, job))
            return
        if job.future.done():
            self._settle()
            return
        self._loop = loop = asyncio.get_running_loop()
        left_seconds = job.deadline - time.monotonic()
        self._timer = loop.call_later(left_seconds, active.engine.expire, job)
        job.future.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        """On an engine's thread, or on the event loop."""
        loop = self._loop
        assert loop is not None
        if asyncio._get_running_loop() is loop:
            loop.call_soon(self._settle)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        active, job = self._active, self._job
        assert active is not None
        assert job is not None
        assert self._request is not None
        if self._timer is not None:
            self._timer.cancel()
        try:
            answers = job.future.result()
        except Exception as problem:
            self._fail(self._told(problem, active, job))
            return
        try:
            reply = self._dialect.encode(answers, active.bundle, self._request)
            self._note(active, job, answers)
        except Exception as problem:
            self._fail(problem)
            return
        active.__exit__()
        self._done((reply, (*reply.headers, *_headers(active.bundle, answers))))

    def _note(self, active: Active, job: Job, answers: list[Scored]) -> None:
        """Tell all who want to know of an answered request."""
        predict = self._predict
        predict.tally(active.bundle).add(answers)
        predict.slot.answered(active, job, answers)
        predict.metrics.scored(answers, active.class_names, active.variant)
        for answer in answers:
            active.feed.put(_observation(answer))
        if predict.capture is not None:
            predict.capture.offer(self._exchange.id, active.bundle.digest, answers)

    def _fail(self, problem: Exception) -> None:
        """What was admitted is let go, and what was submitted counts as failed."""
        active, job = self._active, self._job
        if active is not None:
            if job is not None:
                self._predict.tally(active.bundle).failed += 1
                if isinstance(problem, Refused):
                    self._predict.slot.failed(active, job, problem.reason, self._own_deadline)
            active.__exit__()
        self._done(problem)

    def _told(self, problem: Exception, active: Active, job: Job) -> Exception:
        """What an engine raises, as the client is told it."""
        if isinstance(problem, Expired) and self._gone:
            self._predict.metrics.cancelled("client_gone")
            return ClientGone()
        if isinstance(problem, TooLong):
            return _too_long(active, self._dialect, job, problem)
        return _refusal(problem, active)


def _refusal(problem: Exception, active: Active) -> Refused:
    if isinstance(problem, QueueFull):
        return _overloaded(problem.retry_after_seconds)
    if isinstance(problem, Expired):
        return _late()
    if isinstance(problem, Unhealthy):
        return Refused(503, "Unhealthy", str(problem), reason="engine")
    # ONNX Runtime raises its own, unexported types.
    logger.error("event=inference_failed bundle=%s", active.bundle.digest[:12], exc_info=problem)
    message = str(problem) if isinstance(problem, EngineError) else "the model failed"
    return Refused(424, "Backend", message, reason="engine")


def _headers(bundle: Bundle, answers: Sequence[Scored]) -> list[tuple[bytes, bytes]]:
    inference_seconds = sum(answer.inference_seconds for answer in answers)
    headers = [
        (b"x-edgeloop-bundle", bundle.digest.encode()),
        (b"x-inference-time", milliseconds(inference_seconds)),
    ]
    if bundle.manifest.abstain_below is not None:
        said = b",".join(b"true" if answer.abstained else b"false" for answer in answers)
        headers.append((b"x-edgeloop-abstained", said))
    if bundle.manifest.engine == "cascade":
        headers.append((b"x-edgeloop-stage", b",".join(a.stage.encode() for a in answers)))
    return headers


def client_timeout(value: bytes | None) -> float:
    """Seconds of x-request-timeout-ms; infinite without it. Raises Refused (422)."""
    if value is None:
        return math.inf
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = math.nan
    if not timeout_ms > 0.0:
        raise Refused(
            422, "Validation", f"x-request-timeout-ms: {value!r} is not a number of ms above 0"
        )
    return timeout_ms / 1000.0


def _late() -> Refused:
    return Refused(
        504,
        "Timeout",
        "the deadline passed while the request waited for an inference thread",
        reason="deadline",
    )


def _overloaded(retry_after_seconds: float) -> Refused:
    seconds = max(RETRY_AFTER_LEAST_SECONDS, retry_after_seconds)
    return Refused(
        503,
        "Overloaded",
        "the server has more requests than it can answer in time; try again later",
        reason="queue_full",
        headers=retry_after(seconds),
    )


def _too_long(active: Active, dialect: Dialect[Any], job: Job, problem: TooLong) -> Refused:
    where = "" if len(job.texts) == 1 else f"[{problem.index}]"
    return Refused(
        422,
        "Validation",
        f"`{dialect.inputs}`{where} has more than {active.bundle.manifest.max_tokens} tokens; "
        f"{dialect.longer}",
    )


def _observation(answer: Scored) -> Observation:
    return Observation(
        whole_text(answer.text),
        answer.output.embedding,
        answer.probabilities,
        answer.tokens,
        answer.unknown_tokens,
        answer.answer,
    )

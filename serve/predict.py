"""The hot routes, written against ASGI itself: a body becomes texts, the texts are answered, the
answers become a body. Dialects differ in the shapes of request and reply alone.
"""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.types import Receive, Scope

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.observer import Observation
from edgeloop.rows import whole_text
from serve.capture.writer import Capture
from serve.dialects.dialect import MAX_BATCH_TEXTS, Asked, Dialect, Reply
from serve.engine import Engine
from serve.gone import ClientWatch
from serve.jobs import Expired, Job, QueueFull, Scored, TooLong, Unhealthy
from serve.metrics import ServeMetrics
from serve.refused import Refused, retry_after
from serve.slot import Active, Slot
from serve.tally import Tallies, Tally
from serve.wire import ClientGone, Exchange, check_content_type, milliseconds, read_body, send_body

logger = logging.getLogger(__name__)

RETRY_AFTER_LEAST_SECONDS = 0.05


class Predict:
    """Answers with the deployment that is in the slot when the request is admitted."""

    def __init__(
        self,
        slot: Slot,
        metrics: ServeMetrics,
        queue_texts: int,
        capture: Capture | None = None,
    ) -> None:
        self._capture = capture
        self._slot = slot
        self._metrics = metrics
        self._tallies = Tallies()
        self.set_queue_texts(queue_texts)

    def set_queue_texts(self, queue_texts: int) -> None:
        """A request larger than the queue could never be answered."""
        self._max_batch_texts = min(MAX_BATCH_TEXTS, queue_texts)

    async def __call__(
        self,
        dialect: Dialect[Any],
        names: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        exchange: Exchange,
    ) -> None:
        """Raises Refused, wire.ClientGone."""
        headers = exchange.headers
        body = await read_body(scope, receive)  # first: a client that still sends hears no refusal
        check_content_type(headers.get(b"content-type"))
        timeout_seconds = client_timeout(headers.get(b"x-request-timeout-ms"))
        # Who asks for a version by its digest is no canary's client.
        pinned = "version" in names
        with self._slot.current if pinned else self._slot.admit(scope, body) as active:
            # Admitted: no await between this and submit().
            asked = Asked(body, headers, names, active.variant)
            reply, answers = await self._ask(dialect, asked, active, timeout_seconds, receive)
            if self._capture is not None:
                self._capture.offer(exchange.id, active.bundle.digest, answers)
        told = [*reply.headers, *_headers(active.bundle, answers)]
        await send_body(exchange.send, reply.status, reply.body, told, reply.content_type)

    async def _ask(
        self,
        dialect: Dialect[Any],
        asked: Asked,
        active: Active,
        timeout_seconds: float,
        receive: Receive,
    ) -> tuple[Reply, list[Scored]]:
        request = dialect.parse(asked, active.bundle, self._max_batch_texts)
        left_seconds = min(
            active.bundle.manifest.deadline_ms / 1000.0, timeout_seconds, request.timeout_seconds
        )
        job = Job(request.texts, request.truncate, time.monotonic() + left_seconds)
        tally = self.tally(active.bundle)
        try:
            answers = await self._answer(active, dialect, job, left_seconds, receive)
            reply = dialect.encode(answers, active.bundle, request)
        except Exception as problem:
            tally.failed += 1
            if isinstance(problem, Refused):
                own_deadline = min(timeout_seconds, request.timeout_seconds) < math.inf
                self._slot.failed(active, job, problem.reason, own_deadline)
            raise
        tally.add(answers)
        self._slot.answered(active, job, answers)
        self._metrics.scored(answers, active.class_names, active.variant)
        for answer in answers:
            active.feed.put(_observation(answer))
        return reply, answers

    def tally(self, bundle: Bundle) -> Tally:
        """What was answered with a bundle."""
        return self._tallies.of(bundle.digest)

    async def _answer(
        self,
        active: Active,
        dialect: Dialect[Any],
        job: Job,
        left_seconds: float,
        receive: Receive,
    ) -> list[Scored]:
        """Submit and wait; what the engine raises becomes the answer's status."""
        try:
            return await _submit(active.engine, job, left_seconds, receive)
        except QueueFull as problem:
            raise _overloaded(problem.retry_after_seconds) from None
        except ClientGone:
            self._metrics.cancelled("client_gone")
            raise
        except Expired:
            raise _late() from None
        except TooLong as problem:
            raise _too_long(active, dialect, job, problem) from None
        except Unhealthy as problem:
            raise Refused(503, "Unhealthy", str(problem), reason="engine") from None
        except Exception as problem:  # ONNX Runtime raises its own, unexported types
            logger.exception("event=inference_failed bundle=%s", active.bundle.digest[:12])
            message = str(problem) if isinstance(problem, EngineError) else "the model failed"
            raise Refused(424, "Backend", message, reason="engine") from None


async def _submit(engine: Engine, job: Job, left_seconds: float, receive: Receive) -> list[Scored]:
    """Raises ClientGone where the client left before a thread had taken all its texts."""
    engine.submit(job)
    if job.future.done():
        return job.future.result()
    watch = ClientWatch(engine, job, left_seconds, receive)
    try:
        await _settled(job)
        return job.future.result()
    except Expired:
        if watch.gone:
            raise ClientGone from None
        raise
    finally:
        watch.close()


async def _settled(job: Job) -> None:
    """Wait for an engine's thread: as asyncio.wrap_future does it, for half of its time."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def tell(_: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    job.future.add_done_callback(tell)
    await waiter


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

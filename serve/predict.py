"""POST /predict, /embed and /v1/predict: the hot routes, written against ASGI itself. They differ
in the shapes of request and reply alone.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import Receive, Scope, Send

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.observer import Observation
from edgeloop.records import Manifest
from edgeloop.rows import whole_text
from serve.capture.writer import Capture
from serve.engine import Engine
from serve.jobs import Expired, Job, QueueFull, Scored, TooLong, Unhealthy
from serve.metrics import ServeMetrics
from serve.refused import Refused, retry_after
from serve.slot import Active, Slot
from serve.tei import (
    MAX_BATCH_TEXTS,
    PredictRequest,
    encode_embeddings,
    encode_predictions,
    parse_embed,
    parse_predict,
)
from serve.v1 import encode_v1, parse_v1
from serve.wire import REQUEST_ID, header, milliseconds, read_body, send_json

logger = logging.getLogger(__name__)

RETRY_AFTER_LEAST_SECONDS = 0.05


Parse = Callable[[bytes, Manifest, int], PredictRequest]
Encode = Callable[[Sequence[Scored], Bundle, PredictRequest], bytes]


@dataclass(frozen=True)
class Dialect:
    """The shapes of a route: what a body asks for, and how the answers are told."""

    parse: Parse
    encode: Encode


DIALECTS = {
    "/predict": Dialect(parse_predict, lambda a, b, r: encode_predictions(a, b.manifest, r)),
    "/embed": Dialect(parse_embed, lambda a, b, r: encode_embeddings(a)),
    "/v1/predict": Dialect(parse_v1, lambda a, b, r: encode_v1(a, b)),
}


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
        self.set_queue_texts(queue_texts)

    def set_queue_texts(self, queue_texts: int) -> None:
        """A request larger than the queue could never be answered."""
        self._max_batch_texts = min(MAX_BATCH_TEXTS, queue_texts)

    async def __call__(self, dialect: Dialect, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Refused, wire.ClientGone."""
        body = await read_body(scope, receive)
        timeout_seconds = client_timeout(header(scope, b"x-request-timeout-ms"))
        with self._slot.admit(scope, body) as active:
            # Admitted: no await between this and submit().
            request = dialect.parse(body, active.bundle.manifest, self._max_batch_texts)
            job = Job(request.texts, request.truncate, _deadline(active, timeout_seconds))
            try:
                answers = await _answer(active, job)
            except Refused as problem:
                if problem.reason != "deadline" or math.isinf(timeout_seconds):
                    self._slot.failed(active, job, problem.reason)
                raise
            self._slot.answered(active, job, answers)
            reply = dialect.encode(answers, active.bundle, request)
            self._metrics.scored(answers, active.class_names, active.variant)
            for answer in answers:
                active.feed.put(_observation(answer))
            if self._capture is not None:
                self._capture.offer(scope[REQUEST_ID], active.bundle.digest, answers)
        await send_json(send, 200, reply, _headers(active.bundle, answers))


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


def _deadline(active: Active, timeout_seconds: float) -> float:
    allowed_seconds = active.bundle.manifest.deadline_ms / 1000.0
    return time.monotonic() + min(allowed_seconds, timeout_seconds)


async def _answer(active: Active, job: Job) -> list[Scored]:
    """Submit and wait; what the engine raises becomes the answer's status."""
    try:
        return await _submit(active.engine, job)
    except QueueFull as problem:
        raise _overloaded(problem.retry_after_seconds) from None
    except Expired:
        raise Refused(
            504,
            "Timeout",
            "the deadline passed while the request waited for an inference thread",
            reason="deadline",
        ) from None
    except TooLong as problem:
        raise _too_long(active, job, problem) from None
    except Unhealthy as problem:
        raise Refused(503, "Unhealthy", str(problem), reason="engine") from None
    except Exception as problem:  # ONNX Runtime raises its own, unexported types
        logger.exception("event=inference_failed bundle=%s", active.bundle.digest[:12])
        message = str(problem) if isinstance(problem, EngineError) else "the model failed"
        raise Refused(424, "Backend", message, reason="engine") from None


async def _submit(engine: Engine, job: Job) -> list[Scored]:
    engine.submit(job)
    if job.future.done():
        return job.future.result()
    left_seconds = job.deadline - time.monotonic()
    timer = asyncio.get_running_loop().call_later(left_seconds, engine.expire, job)
    try:
        return await asyncio.wrap_future(job.future)
    finally:
        timer.cancel()


def _overloaded(retry_after_seconds: float) -> Refused:
    seconds = max(RETRY_AFTER_LEAST_SECONDS, retry_after_seconds)
    return Refused(
        503,
        "Overloaded",
        "the server has more requests than it can answer in time; try again later",
        reason="queue_full",
        headers=retry_after(seconds),
    )


def _too_long(active: Active, job: Job, problem: TooLong) -> Refused:
    where = "" if len(job.texts) == 1 else f"[{problem.index}]"
    return Refused(
        422,
        "Validation",
        f"`inputs`{where} has more than {active.bundle.manifest.max_tokens} tokens; shorten it, or "
        'send "truncate": true to have it cut at its end',
    )


def _observation(answer: Scored) -> Observation:
    text, embedding = whole_text(answer.text), answer.output.embedding
    return Observation(text, embedding, answer.probabilities, answer.tokens)

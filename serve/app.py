"""The server's routes. Those of predict.DIALECTS are plain ASGI, the others are Starlette's.

POST /predict /embed /v1/predict /feedback    GET /health /info /metrics /drift
"""

import asyncio
import logging

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeloop.errors import LedgerError
from edgeloop.ledger import LabelledRow, Ledger
from serve.access_log import log_request
from serve.capture.writer import Capture
from serve.feedback import parse_feedback
from serve.keys import KEY_NAME, Guard
from serve.metrics import OTHER, ROUTE_CODES, VARIANT, ServeMetrics
from serve.predict import DIALECTS, Predict
from serve.refused import Refused
from serve.slot import VARIANT_KEY, Slot
from serve.tei import MAX_BATCH_TEXTS
from serve.wire import (
    CLIENT_CLOSED,
    ClientGone,
    Exchange,
    read_body,
    send_error,
    send_json,
)

logger = logging.getLogger(__name__)

# Everything is open where serve.yaml names no keys.
OPEN = Guard(None)
SERVER_ERROR = "an error in the server; its log says more"


class EdgeApp:
    """The ASGI application; turns what the routes raise into answers, and counts them."""

    def __init__(
        self,
        slot: Slot,
        metrics: ServeMetrics,
        ledger: Ledger | None,
        queue_texts: int,
        guard: Guard = OPEN,
        capture: Capture | None = None,
        access_log: bool = False,
    ) -> None:
        self.draining = False
        self._slot = slot
        self._metrics = metrics
        self._ledger = ledger
        self._guard = guard
        self._access_log = access_log
        self._predict = Predict(slot, metrics, queue_texts, capture)
        self._others = Starlette(
            routes=[
                Route("/feedback", self._feedback, methods=["POST"]),
                Route("/health", self._health),
                Route("/info", self._info),
                Route("/metrics", self._scrape),
                Route("/drift", self._drift),
            ],
            exception_handlers={
                HTTPException: _http_error,
                Refused: self._refused,
                ClientGone: _client_gone,
                Exception: _server_error,
            },
        )
        self._others.router.redirect_slashes = False

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        self._predict.set_queue_texts(queue_texts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["path"] if scope["path"] in ROUTE_CODES else OTHER
        exchange = Exchange(scope, send, self.draining)
        self._metrics.inflight.inc()
        try:
            await self._dispatch(route, scope, receive, exchange)
        finally:
            self._metrics.inflight.dec()
            variant = scope.get(VARIANT_KEY, VARIANT)
            self._metrics.answered(route, exchange.status, exchange.seconds(), variant)
            if self._access_log:
                log_request(exchange, scope["method"], route, scope.get(KEY_NAME))

    async def _dispatch(
        self, route: str, scope: Scope, receive: Receive, exchange: Exchange
    ) -> None:
        try:
            scope[KEY_NAME] = self._guard.admit(scope)
            if route in DIALECTS and scope["method"] == "POST":
                await self._predict(DIALECTS[route], scope, receive, exchange.send)
            elif route in DIALECTS:
                await send_error(exchange.send, 405, "Validation", "use POST")
            else:
                await self._others(scope, receive, exchange.send)
        except Refused as problem:
            self._metrics.rejected(problem.reason)
            await send_json(exchange.send, problem.status, problem.body(), problem.headers)
        except ClientGone:
            exchange.status = CLIENT_CLOSED
        except Exception:  # Starlette has answered its own; it raises again to have it logged
            logger.exception("event=request_failed route=%s", route)
            if not exchange.answered:
                await send_error(exchange.send, 500, "Backend", SERVER_ERROR)

    async def _refused(self, _: Request, problem: Exception) -> Response:
        assert isinstance(problem, Refused)
        self._metrics.rejected(problem.reason)
        response = Response(problem.body(), problem.status, media_type="application/json")
        response.raw_headers.extend(problem.headers)
        return response

    async def _feedback(self, request: Request) -> Response:
        """Store a label. Not on the event loop: the ledger may wait for another writer."""
        if self._ledger is None:
            raise Refused(
                503,
                "Unhealthy",
                "labels are not stored: the server was started without a ledger",
                reason="ledger",
            )
        body = await read_body(request.scope, request.receive)
        row = parse_feedback(body, self._slot.current.bundle.manifest)
        labelled = LabelledRow(row.id, row.text, row.label)
        try:
            stored = await asyncio.to_thread(
                self._ledger.add_labels, self._metrics.model, [labelled], "feedback"
            )
        except LedgerError as problem:
            logger.error("event=feedback_not_stored problem=%s", problem)
            raise Refused(
                503, "Unhealthy", "the label was not stored; try again later", reason="ledger"
            ) from None
        self._metrics.labels_stored.inc(stored)
        return _json({"stored": stored})

    async def _health(self, _: Request) -> Response:
        active = self._slot.current
        if self.draining:
            return _json({"status": "draining"}, 503)
        if not active.engine.healthy():
            return _json({"status": "unhealthy", "reason": "an inference thread died"}, 503)
        return _json({"status": "ok", "bundle_digest": active.bundle.digest})

    async def _info(self, _: Request) -> Response:
        bundle = self._slot.current.bundle
        manifest = bundle.manifest
        return _json(
            {
                "model": manifest.name,
                "task": manifest.task,
                "candidate": manifest.candidate,
                "bundle_digest": bundle.digest,
                "labels": manifest.labels,
                "text_pair": manifest.text_pair,
                "abstain_below": manifest.abstain_below,
                "max_tokens": manifest.max_tokens,
                "max_batch_texts": MAX_BATCH_TEXTS,
                "deadline_ms": manifest.deadline_ms,
            }
        )

    async def _scrape(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        body = await asyncio.to_thread(encode, self._metrics.registry)
        return Response(body, headers={"content-type": content_type})

    async def _drift(self, _: Request) -> Response:
        active = self._slot.current
        verdict = active.feed.verdict
        return _json(
            {
                **msgspec.to_builtins(active.feed.observer.status()),
                "pending_observations": active.feed.pending(),
                "bundle_digest": active.bundle.digest,
                "verdict": None if verdict is None else verdict.model_dump(mode="json"),
            }
        )


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _server_error(_: Request, __: Exception) -> Response:
    return _json({"error": SERVER_ERROR, "error_type": "Backend"}, 500)


async def _http_error(_: Request, problem: Exception) -> Response:
    """Starlette's own 404 and 405, in TEI's shape."""
    assert isinstance(problem, HTTPException)
    document = {"error": problem.detail, "error_type": "Validation"}
    response = _json(document, problem.status_code)
    response.headers.update(problem.headers or {})
    return response

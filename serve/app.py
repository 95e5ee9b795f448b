"""The server's routes. Those of serve.dialects are plain ASGI, the others are Starlette's:

POST /feedback    GET / /console/state /health /info /metrics /drift /openapi.json
"""

import asyncio
import logging
from collections.abc import Mapping

import msgspec
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeloop.errors import LedgerError
from edgeloop.ledger import FEEDBACK, LabelledRow, Ledger
from serve.capture.writer import Capture
from serve.console.page import PAGE, STATE, Console
from serve.dialects.dialect import MAX_BATCH_TEXTS, NO_NAMES, Asked, Served
from serve.dialects.dialect import Route as DialectRoute
from serve.dialects.routes import find, shape_at
from serve.feedback import parse_feedback
from serve.hot import SERVER_ERROR, HotRoutes
from serve.keys import Guard
from serve.metrics import OTHER, ROUTE_CODES, ServeMetrics
from serve.openapi import document as openapi_document
from serve.predict import Predict
from serve.reception import Reception
from serve.refused import ErrorType, Refused
from serve.slot import Slot
from serve.wire import (
    CLIENT_CLOSED,
    AsgiExchange,
    ClientGone,
    check_content_type,
    read_body,
    send_body,
)

logger = logging.getLogger(__name__)

# Everything is open where serve.yaml names no keys.
OPEN = Guard(None)


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
        console: Console | None = None,
    ) -> None:
        self._slot = slot
        self._metrics = metrics
        self._ledger = ledger
        self._console = console
        self._reception = Reception(metrics, guard, access_log)
        self._predict = Predict(slot, metrics, queue_texts, capture)
        self.hot = HotRoutes(self._predict, self._reception)
        self._others = Starlette(
            routes=[
                Route("/feedback", self._feedback, methods=["POST"]),
                Route("/health", self._health),
                Route("/info", self._info),
                Route("/metrics", self._scrape),
                Route("/drift", self._drift),
                Route("/openapi.json", _openapi),
                *([] if console is None else console.routes(lambda: self.draining)),
            ],
            exception_handlers={
                HTTPException: _http_error,
                Refused: self._refused,
                ClientGone: _client_gone,
                Exception: _server_error,
            },
        )
        self._others.router.redirect_slashes = False

    @property
    def draining(self) -> bool:
        """Is the server about to stop?"""
        return self._reception.draining

    def drain(self) -> None:
        """Say so in every answer from now on."""
        self._reception.draining = True

    def set_queue_texts(self, queue_texts: int) -> None:
        """How many texts may wait from now on."""
        self._predict.set_queue_texts(queue_texts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        route, names = find(path)
        label = path if path in ROUTE_CODES else OTHER
        if self._has_page(scope):  # counted with its numbers: the path is a dialect's, too
            route, names, label = None, NO_NAMES, STATE
        exchange = AsgiExchange(scope, send, self.draining)
        self._reception.open()
        try:
            if route is not None:
                label = route.label
            await self._dispatch(route, names, scope, receive, exchange)
        finally:
            self._reception.close(exchange, scope, label)

    async def _dispatch(
        self,
        route: DialectRoute | None,
        names: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        exchange: AsgiExchange,
    ) -> None:
        try:
            if not self._has_page(scope):  # it holds no secret, and asks for the key
                self._reception.admit(scope)
            if route is None:
                await self._others(scope, receive, exchange.send)
            elif route.dialect is not None and scope["method"] == "POST":
                await self._predict(route.dialect, names, scope, receive, exchange)
            else:
                await self._view(route, names, scope, receive, exchange)
        except Refused as problem:
            self._metrics.rejected(problem.reason)
            await _send_refusal(scope, exchange, problem)
        except ClientGone:
            exchange.status = CLIENT_CLOSED
        except Exception:  # Starlette has answered its own; it raises again to have it logged
            logger.exception("event=request_failed route=%s", route.label if route else OTHER)
            if not exchange.answered:
                await _send_refusal(scope, exchange, Refused(500, "Backend", SERVER_ERROR))

    def _has_page(self, scope: Scope) -> bool:
        return self._console is not None and self._console.has_page(scope)

    def _page_methods(self, route: DialectRoute) -> tuple[str, ...]:
        return ("GET",) if self._console is not None and route.template == PAGE else ()

    async def _view(
        self,
        route: DialectRoute,
        names: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        exchange: AsgiExchange,
    ) -> None:
        """What a route tells of the server. Raises Refused (405 for a method that it has not)."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        view = route.views.get(method)
        if view is None:
            allowed = ", ".join(sorted({*route.methods(), *self._page_methods(route)}))
            headers = [(b"allow", allowed.encode())]
            raise Refused(405, "Validation", f"use {allowed}", headers=headers)
        body = b"" if method == "GET" else await read_body(scope, receive)
        active = self._slot.current
        live = active.engine.healthy()
        ready = live and not self.draining
        served = Served(active.bundle, live, ready, self._predict.tally(active.bundle))
        reply = view(served, Asked(body, exchange.headers, names))
        await send_body(exchange.send, reply.status, reply.body, reply.headers, reply.content_type)

    async def _refused(self, request: Request, problem: Exception) -> Response:
        assert isinstance(problem, Refused)
        self._metrics.rejected(problem.reason)
        return _refusal(request, problem)

    async def _feedback(self, request: Request) -> Response:
        """Store a label. Not on the event loop: the ledger may wait for another writer."""
        if self._ledger is None:
            raise Refused(
                503,
                "Unhealthy",
                "labels are not stored: the server was started without a ledger",
                reason="ledger",
            )
        check_content_type(
            request.headers.get("content-type", "application/json").encode("latin-1")
        )
        body = await read_body(request.scope, request.receive)
        row = parse_feedback(body, self._slot.current.bundle.manifest)
        labelled = LabelledRow(
            row.id,
            row.text,
            row.label,
            inclusion_probability=row.inclusion_probability,
            rule=row.rule,
        )
        try:
            stored = await asyncio.to_thread(
                self._ledger.add_labels, self._metrics.model, [labelled], FEEDBACK
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
                "runtime": msgspec.to_builtins(active.golden),
            }
        )


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _openapi(_: Request) -> Response:
    return Response(openapi_document(), media_type="application/json")


async def _server_error(request: Request, __: Exception) -> Response:
    return _refusal(request, Refused(500, "Backend", SERVER_ERROR))


async def _http_error(request: Request, problem: Exception) -> Response:
    """Starlette's own 404 and 405."""
    assert isinstance(problem, HTTPException)
    kind: ErrorType = "NotFound" if problem.status_code == 404 else "Validation"
    headers = [(k.encode(), v.encode()) for k, v in (problem.headers or {}).items()]
    detail = f"{problem.detail}: {request.method} {request.url.path}"
    return _refusal(request, Refused(problem.status_code, kind, detail, headers=headers))


def _refusal(request: Request, problem: Refused) -> Response:
    """In the shape of the path's dialect."""
    status, body = shape_at(request.scope["path"])(problem)
    response = Response(body, status, media_type="application/json")
    response.raw_headers.extend(problem.headers)
    return response


async def _send_refusal(scope: Scope, exchange: AsgiExchange, problem: Refused) -> None:
    """In the shape of the path's dialect."""
    status, body = shape_at(scope["path"])(problem)
    await send_body(exchange.send, status, body, problem.headers)

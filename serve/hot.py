"""Requests for answers that come whole, as nearly all do: between the parser and the engine there
is no task and no ASGI message. EdgeApp answers what does not fit here.
"""

import logging
from collections.abc import Callable, Mapping

from starlette.types import Scope

from serve.asking import Asking, Outcome
from serve.dialects.dialect import Route
from serve.dialects.routes import find
from serve.predict import Predict
from serve.reception import Reception
from serve.refused import Refused
from serve.wire import CLIENT_CLOSED, JSON, ClientGone, Exchange, Headers, header

logger = logging.getLogger(__name__)

SERVER_ERROR = "an error in the server; its log says more"
# Larger bodies come in several pieces, and are read on through ASGI, which can hold them back.
MAX_HOT_BYTES = 32 * 1024
# What ASGI is better at: to inflate a body, to take it in chunks, to ask for it.
NOT_HOT = frozenset((b"content-encoding", b"transfer-encoding", b"expect"))

# Status, headers, body.
Write = Callable[[int, Headers, bytes], None]


class HotRoutes:
    """Which requests are answered here."""

    def __init__(self, predict: Predict, reception: Reception) -> None:
        self._predict = predict
        self._reception = reception

    def take(self, scope: Scope, write: Write) -> "HotRequest | None":
        """A POST to a dialect's route with a body of a known and moderate length; None for every
        other request. `write` is called once with the answer, unless the client is gone."""
        if scope["method"] != "POST":
            return None
        length = header(scope, b"content-length")
        if length is None or not length.isdigit() or int(length) > MAX_HOT_BYTES:
            return None
        if any(name in NOT_HOT for name, _ in scope["headers"]):
            return None
        route, names = find(scope["path"])
        if route is None or route.dialect is None:
            return None
        return HotRequest(self._predict, self._reception, route, names, scope, write)


class HotRequest:
    """One of them, from the end of its head to its answer."""

    __slots__ = (
        "_asking",
        "_exchange",
        "_names",
        "_predict",
        "_reception",
        "_route",
        "_scope",
        "_write",
    )

    def __init__(
        self,
        predict: Predict,
        reception: Reception,
        route: Route,
        names: Mapping[str, str],
        scope: Scope,
        write: Write,
    ) -> None:
        self._predict, self._reception = predict, reception
        self._route, self._names, self._scope = route, names, scope
        self._write = write
        self._asking: Asking | None = None
        self._exchange = Exchange(scope, reception.draining)
        reception.open()

    def begin(self, body: bytes) -> None:
        """The body is there. The answer may have been written at the return."""
        assert self._route.dialect is not None
        try:
            self._reception.admit(self._scope)
        except Refused as problem:
            self._done(problem)
            return
        self._asking = Asking(self._predict, self._route.dialect, self._exchange, self._done)
        self._asking.begin(self._names, self._scope, body)

    def client_gone(self) -> None:
        """The connection is lost, before or after the body was there."""
        if self._asking is None:
            self._done(ClientGone())
        else:
            self._asking.client_gone()

    def _done(self, outcome: Outcome) -> None:
        if isinstance(outcome, tuple):
            reply, headers = outcome
            self._answer(reply.status, headers, reply.body, reply.content_type)
        elif isinstance(outcome, Refused):
            self._reception.metrics.rejected(outcome.reason)
            self._refuse(outcome)
        elif isinstance(outcome, ClientGone):
            self._exchange.status = CLIENT_CLOSED
            self._close()
        else:
            logger.error("event=request_failed route=%s", self._route.label, exc_info=outcome)
            self._refuse(Refused(500, "Backend", SERVER_ERROR))

    def _refuse(self, problem: Refused) -> None:
        """In the shape of the route's dialect."""
        status, body = self._route.shape(problem)
        self._answer(status, problem.headers, body, JSON)

    def _answer(self, status: int, headers: Headers, body: bytes, content_type: bytes) -> None:
        exchange = self._exchange
        exchange.status = status
        plain = (
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            *headers,
            *exchange.carried(),
        )
        self._write(status, plain, body)
        self._close()

    def _close(self) -> None:
        self._reception.close(self._exchange, self._scope, self._route.label)

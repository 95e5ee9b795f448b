"""What every request passes at its beginning and at its end, however it came in: the guard, the
counts, the log.
"""

from starlette.types import Scope

from serve.access_log import log_request
from serve.keys import KEY_NAME, Guard
from serve.metrics import VARIANT, ServeMetrics
from serve.slot import VARIANT_KEY
from serve.wire import Exchange


class Reception:
    """`draining`: whoever is answered now is told to come back on another connection."""

    def __init__(self, metrics: ServeMetrics, guard: Guard, access_log: bool) -> None:
        self.draining = False
        self.metrics = metrics
        self._guard = guard
        self._access_log = access_log

    def open(self) -> None:
        """A request is under way."""
        self.metrics.inflight.inc()

    def admit(self, scope: Scope) -> None:
        """Look at its key. Raises Refused (401, 403, 429)."""
        scope[KEY_NAME] = self._guard.admit(scope)

    def close(self, exchange: Exchange, scope: Scope, label: str) -> None:
        """It is answered, or will never be."""
        variant = scope.get(VARIANT_KEY, VARIANT)
        self.metrics.inflight.dec()
        self.metrics.answered(label, exchange.status, exchange.seconds(), variant)
        if self._access_log:
            log_request(exchange, scope["method"], label, scope.get(KEY_NAME))

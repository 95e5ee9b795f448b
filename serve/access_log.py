"""One log line per request: who asked for what, the answer's code, how long it took. Never a text,
and not the path either, which a client may have put anything into: its route.
"""

import json
import logging

from serve.keys import KeyName
from serve.wire import Exchange

logger = logging.getLogger(__name__)


def log_request(exchange: Exchange, method: str, route: str, key: KeyName | None) -> None:
    """`event=request id="7" method=POST route=/predict code=200 ms=1.234 key=shop`. The id is the
    client's: quoted, it cannot look like fields of ours."""
    logger.info(
        "event=request id=%s method=%s route=%s code=%d ms=%.3f key=%s",
        json.dumps(exchange.id.decode("ascii")),
        method,
        route,
        exchange.status,
        exchange.seconds() * 1000.0,
        key or "-",
    )

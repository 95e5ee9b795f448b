"""GET /: the console, one page with its style and its script inside. GET /console/state: its
numbers, for whoever may read /metrics.

The page itself is open where keys are configured, as it asks for one; it holds nothing of this
server. Its Content-Security-Policy allows the two parts by their hashes and nothing else: no other
script or style, no frame around it, no request to another host, no text that becomes markup.
"""

import base64
import hashlib
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from serve.console.state import StateReader
from serve.deployments import Deployments

PAGE, STATE = "/", "/console/state"
PARTS = ("console.css", "console.js")
SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Console:
    """The two routes of one server."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments

    @staticmethod
    def has_page(scope: Scope) -> bool:
        """Is this a request for the page? A POST to the same path is Hugging Face's."""
        return scope["path"] == PAGE and scope["method"] in ("GET", "HEAD")

    def routes(self, draining: Callable[[], bool]) -> list[Route]:
        """For the application that knows whether it drains."""
        reader = StateReader(self._deployments, draining)

        async def page(_: Request) -> Response:
            body, policy = document()
            headers = {**SECURITY_HEADERS, "content-security-policy": policy}
            return Response(body, headers=headers, media_type="text/html")

        async def state(_: Request) -> Response:
            body = msgspec.json.encode(reader.read())
            return Response(body, headers=SECURITY_HEADERS, media_type="application/json")

        return [Route(PAGE, page), Route(STATE, state)]


@cache
def document() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy."""
    style, script = (_read(name) for name in PARTS)
    html = _read("console.html").replace("{{style}}", style).replace("{{script}}", script)
    return html.encode(), policy_of(style, script)


def policy_of(style: str, script: str) -> str:
    """What a browser may do with a page of these two parts."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash_of(script)}",
            f"style-src {_hash_of(style)}",
            "connect-src 'self'",
            "img-src data:",  # the icon; without one browsers ask for /favicon.ico
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash_of(part: str) -> str:
    digest = hashlib.sha256(part.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return files("serve.console").joinpath(name).read_text(encoding="utf-8")

"""The admin listener's routes: which bundle answers, and changing that. On a port of its own.

    GET    /admin/bundles            current, previous, on trial, and the latest changes
    POST   /admin/bundles            {"path": "..."}: verify, load, replay, swap
    POST   /admin/rollback           back to the bundle from before
    POST   /admin/canary, /shadow    {"path", "share", ...}: put a bundle on trial; DELETE ends it
    POST   /v2/repository/models/{model}/load, /unload    the same for OIP clients

A change that is refused answers with {"error", "error_type", "step"}, and leaves what serves.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeloop.bundle import Bundle
from edgeloop.document import explain
from serve.admin_paths import check_origin, find_bundle
from serve.body import decode
from serve.deployments import Deployments
from serve.keys import Guard
from serve.lifecycle_config import Canary, Shadow, TrialSection
from serve.metrics import CANARY, SHADOW
from serve.refused import Refused, invalid
from serve.slot import ActivationError, Active
from serve.trial import Trial
from serve.trials import Trials
from serve.wire import CLIENT_CLOSED, ClientGone, read_body

logger = logging.getLogger(__name__)

CONFLICTS = ("busy", "ledger", "previous")
SECTIONS: dict[str, type[TrialSection]] = {CANARY: Canary, SHADOW: Shadow}
LEDGER_DECIDES = (
    "the server follows the ledger, which decides what is deployed; use `edgeloop rollback NAME` "
    "or deploy with `edgeloop run`"
)


class SwapBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /admin/bundles."""

    path: str


class LoadParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of a repository load; other parameters of OIP are refused, not ignored."""

    path: str | None = None


class LoadBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v2/repository/models/{model}/load."""

    parameters: LoadParameters = LoadParameters()


_swap = msgspec.json.Decoder(SwapBody)
_load = msgspec.json.Decoder(LoadBody)
_mapping = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True)
class AdminRules:
    """`bundles`: the folder that bundles must lie in; `check` opens one; `follows`: the ledger
    decides what serves."""

    bundles: Path | None
    check: Callable[[Path], Bundle]
    follows: bool


class AdminApp:
    """The ASGI application of the admin listener."""

    def __init__(
        self, deployments: Deployments, trials: Trials, rules: AdminRules, guard: Guard
    ) -> None:
        self._deployments = deployments
        self._trials = trials
        self._rules = rules
        self._guard = guard
        model = "/v2/repository/models/{model}"
        self._app = Starlette(
            routes=[
                Route("/admin/bundles", self._show),
                Route("/admin/bundles", self._swap, methods=["POST"]),
                Route("/admin/rollback", self._roll_back, methods=["POST"]),
                Route("/admin/{variant}", self._start_trial, methods=["POST"]),
                Route("/admin/{variant}", self._end_trial, methods=["DELETE"]),
                Route(f"{model}/load", self._load, methods=["POST"]),
                Route(f"{model}/unload", self._unload, methods=["POST"]),
            ],
            exception_handlers={
                HTTPException: _http_error,
                Refused: _refused,
                ActivationError: _not_activated,
                ClientGone: _client_gone,
                Exception: _server_error,
            },
        )
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            check_origin(scope)
            self._guard.check(scope, "admin")
        except Refused as problem:
            self._deployments.metrics.rejected(problem.reason)
            await _answer_refused(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _show(self, _: Request) -> Response:
        slot = self._deployments.slot
        return _json(
            {
                "current": _described(slot.current),
                "previous": None if slot.previous is None else _described(slot.previous),
                "canary": _on_trial(slot.canary),
                "shadow": _on_trial(slot.shadow),
                "busy": self._deployments.busy(),
                "history": [asdict(change) for change in reversed(self._deployments.history)],
            }
        )

    async def _swap(self, request: Request) -> Response:
        body = decode(_swap, await read_body(request.scope, request.receive))
        return _json(await self._swap_to(body.path))

    async def _swap_to(self, path: str) -> dict[str, object]:
        """Raises ActivationError with the step that failed."""
        try:
            self._refuse_unless_free()
            found = find_bundle(path, self._rules.bundles)
        except ActivationError as problem:
            self._deployments.metrics.swapped(problem.reason)
            raise
        swapped = await self._deployments.swap(found, "admin", lambda: self._rules.check(found))
        return {"digest": self._digest(), "swapped": swapped}

    async def _roll_back(self, _: Request) -> Response:
        self._refuse_unless_free()
        await self._deployments.roll_back("asked", "admin")
        return _json({"digest": self._digest()})

    async def _start_trial(self, request: Request) -> Response:
        variant = _variant(request)
        body = decode(_mapping, await read_body(request.scope, request.receive))
        rules = self._trial_rules(variant, body)
        if self._deployments.busy():
            raise ActivationError("busy", "a bundle is being loaded; try again when it is done")
        trial = await self._trials.start(variant, rules, "admin")
        return _json(_on_trial(trial))

    def _trial_rules(self, variant: str, body: dict[str, Any]) -> TrialSection:
        """The section that the body stands for, `path` instead of `bundle`. Raises Refused,
        ActivationError."""
        if not isinstance(body.get("path"), str) or "bundle" in body:
            raise invalid("`path` must be the folder of a bundle, as text")
        found = find_bundle(body["path"], self._rules.bundles)
        rest = {key: value for key, value in body.items() if key != "path"}
        section = SECTIONS[variant]
        try:
            rules = section.model_validate_json(msgspec.json.encode({**rest, "bundle": str(found)}))
        except ValidationError as problem:
            raise invalid("; ".join(explain(Path("body"), problem, section))) from None
        if self._rules.follows and isinstance(rules, Canary) and rules.promote:
            raise ActivationError("ledger", f"`promote` is not possible: {LEDGER_DECIDES}")
        return rules

    async def _end_trial(self, request: Request) -> Response:
        variant = _variant(request)
        ended = await self._trials.end(variant, "ended", "asked for", "admin")
        if not ended:
            raise HTTPException(404, f"no {variant} is on trial")
        return _json({"ended": variant})

    async def _load(self, request: Request) -> Response:
        """Without a path the model that is loaded already is meant."""
        self._check_model(request)
        raw = await read_body(request.scope, request.receive)
        path = decode(_load, raw or b"{}").parameters.path
        return _json({} if path is None else await self._swap_to(path))

    async def _unload(self, request: Request) -> Response:
        self._check_model(request)
        raise ActivationError(
            "unload", "the server's one model cannot be unloaded; load another, or stop the server"
        )

    def _check_model(self, request: Request) -> None:
        known, asked = self._deployments.metrics.model, request.path_params["model"]
        if asked != known:
            raise HTTPException(404, f"no model {asked!r} here, this server serves {known!r}")

    def _refuse_unless_free(self) -> None:
        if self._rules.follows:
            raise ActivationError("ledger", LEDGER_DECIDES)
        if self._deployments.busy():
            raise ActivationError("busy", "a bundle is being loaded; try again when it is done")

    def _digest(self) -> str:
        return self._deployments.slot.current.bundle.digest


def _variant(request: Request) -> str:
    variant = str(request.path_params["variant"])
    if variant not in SECTIONS:
        raise HTTPException(404, "Not Found")
    return variant


def _described(active: Active) -> dict[str, object]:
    manifest = active.bundle.manifest
    return {
        "digest": active.bundle.digest,
        "path": str(active.bundle.path),
        "candidate": manifest.candidate,
        "created_at": manifest.created_at,
        "healthy": active.engine.healthy(),
    }


def _on_trial(trial: Trial | None) -> dict[str, object] | None:
    if trial is None:
        return None
    return {
        **_described(trial.active),
        "share": trial.rules.share,
        "needed_evidence": 1.0 / trial.rules.alpha,
        "passed": trial.passed,
        "dropped": trial.dropped,
        **asdict(trial.judge.standing()),
    }


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _error(status: int, error_type: str, message: str, step: str) -> Response:
    return _json({"error": message, "error_type": error_type, "step": step}, status)


async def _not_activated(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, ActivationError)
    if problem.reason in CONFLICTS:
        return _error(409, "Conflict", str(problem), problem.reason)
    return _error(422, "Validation", str(problem), problem.reason)


def _answer_refused(problem: Refused) -> Response:
    response = _error(problem.status, problem.error_type, str(problem), "request")
    response.raw_headers.extend(problem.headers)
    return response


async def _refused(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    return _answer_refused(problem)


async def _client_gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)


async def _http_error(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    response = _error(problem.status_code, "Validation", problem.detail, "request")
    response.headers.update(problem.headers or {})
    return response


async def _server_error(_: Request, __: Exception) -> Response:
    return _error(500, "Backend", "an error in the server; its log says more", "request")

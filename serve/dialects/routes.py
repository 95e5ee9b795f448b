"""Every dialect, one line each, and which route a path belongs to."""

from collections.abc import Mapping
from typing import Any

from serve.dialects import hf, oip_about, openai, tei, v1, vllm
from serve.dialects.dialect import NO_NAMES, Route, Shape, tei_shape
from serve.dialects.oip import shape as oip_shape

DIALECTS: dict[str, tuple[Route, ...]] = {
    "text-embeddings-inference": tei.ROUTES,
    "edgeloop": v1.ROUTES,
    "huggingface": hf.ROUTES,
    "openai": openai.ROUTES,
    "vllm": vllm.ROUTES,
    "open-inference-protocol": oip_about.ROUTES,
}
ROUTES = {route.template: route for routes in DIALECTS.values() for route in routes}
# How errors are told at paths that no route has.
PREFIXES: dict[str, Shape] = {"/v1/": openai.shape, "/v2/": oip_shape}
_EXACT = {template: route for template, route in ROUTES.items() if "{" not in template}
_ANY = "{}"
_HERE = "/"


def find(path: str) -> tuple[Route | None, Mapping[str, str]]:
    """The route of a path, and what the path names. A look-up in a dict for routes without names,
    one for every part of the path for the others."""
    route = _EXACT.get(path)
    if route is not None:
        return route, NO_NAMES
    node, values = _TREE, list[str]()
    for part in path.split("/")[1:]:
        if part in node and part != _ANY:
            node = node[part]
        elif part and _ANY in node:
            values.append(part)
            node = node[_ANY]
        else:
            return None, NO_NAMES
    if _HERE not in node:
        return None, NO_NAMES
    route, names = node[_HERE]
    return route, dict(zip(names, values, strict=True))


def shape_at(path: str) -> Shape:
    """How errors are told at a path, whether it has a route or not."""
    route, _ = find(path)
    if route is not None:
        return route.shape
    return next((shape for prefix, shape in PREFIXES.items() if path.startswith(prefix)), tei_shape)


def _names(route: Route) -> list[str]:
    return [part[1:-1] for part in route.template.split("/") if part.startswith("{")]


def _tree() -> dict[str, Any]:
    """The parts of the templates with names, as nested dicts; the route stands with its names at
    _HERE, which no part of a path can be."""
    root: dict[str, Any] = {}
    for template, route in ROUTES.items():
        if "{" in template:
            node = root
            for part in template.split("/")[1:]:
                node = node.setdefault(_ANY if part.startswith("{") else part, {})
            node[_HERE] = (route, _names(route))
    return root


_TREE = _tree()

"""Which route a path belongs to, and in which shape its errors are told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.dialects.routes import DIALECTS, ROUTES, find, shape_at
from serve.metrics import OTHER, ROUTE_CODES
from serve.openapi import NOT_TOLD, OPERATIONS, document
from serve.refused import Refused

NAME = st.text(min_size=1).filter(lambda name: "/" not in name)


@pytest.mark.parametrize("template", ROUTES)
def test_every_route_is_found_with_what_its_path_names(template: str) -> None:
    path = template.replace("{model}", "tiny").replace("{version}", "v1")
    route, names = find(path)
    assert route is ROUTES[template]
    expected = {"model": "tiny"} if "{model}" in template else {}
    expected |= {"version": "v1"} if "{version}" in template else {}
    assert names == expected


@given(NAME)
def test_any_name_may_stand_in_a_path(name: str) -> None:
    route, names = find(f"/v2/models/{name}/infer")
    assert (route, names) == (ROUTES["/v2/models/{model}/infer"], {"model": name})


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//",
        "/v2/",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/a/infer/",
        "/v2/models/a/versions",
        "/v2/models/a/versions//infer",
        "/v2/models/a/b/infer",
        "/hf/",
        "/hf/a/b",
        "/predict/",
        "/PREDICT",
        "/v2/models/a/../infer",
    ],
)
def test_other_paths_have_no_route(path: str) -> None:
    assert find(path) == (None, {})


@given(st.text())
def test_any_path_is_looked_up(path: str) -> None:
    find(path)
    shape_at(path)(Refused(404, "NotFound", "m"))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/predict", str),
        ("/", str),
        ("/hf/a", str),
        ("/nothing", str),
        ("/v1/predict", str),
        ("/v1/embeddings", dict),
        ("/v1/nothing", dict),
        ("/classify", dict),
        ("/v2/nothing", str),
        ("/v2/models/a/infer", str),
    ],
)
def test_errors_are_told_in_the_shape_of_the_path(path: str, kind: type) -> None:
    _, body = shape_at(path)(Refused(404, "NotFound", "m"))
    error = json.loads(body)
    assert isinstance(error["error"], kind)
    assert ("error_type" in error) == (kind is str and not path.startswith("/v2"))


def test_no_two_dialects_have_the_same_route() -> None:
    assert len(ROUTES) == sum(len(routes) for routes in DIALECTS.values())


def test_every_route_has_its_series() -> None:
    assert {route.label for route in ROUTES.values()} <= set(ROUTE_CODES)


# -- the OpenAPI document ------------------------------------------------------------------------


def operations() -> dict[str, Any]:
    paths = json.loads(document())["paths"]
    return {f"{m.upper()} {path}": op for path, item in paths.items() for m, op in item.items()}


def test_the_document_has_every_operation() -> None:
    expected = {f"{m} {r.template}" for r in ROUTES.values() for m in r.methods()}
    labels = {route.label for route in ROUTES.values()}
    others = set(ROUTE_CODES) - labels - {OTHER}
    expected |= {f"{'POST' if path == '/feedback' else 'GET'} {path}" for path in others}
    expected.add("GET /")  # the console, beside the dialect's POST
    assert set(operations()) == set(OPERATIONS) == expected


def test_the_document_has_status_codes_that_are_counted() -> None:
    for key, operation in operations().items():
        path = key.partition(" ")[2]
        known = ROUTE_CODES[ROUTES[path].label if path in ROUTES else path]
        assert set(operation["responses"]) <= {str(code) for code in known}
        assert "500" in operation["responses"]
        answers = "requestBody" in operation and path in ROUTES
        if path not in ROUTES or (answers and ROUTES[path].dialect is not None):
            assert set(operation["responses"]) == {str(c) for c in set(known) - set(NOT_TOLD)}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    text = document().decode()
    known = json.loads(text)["components"]["schemas"]
    named = {part.partition('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named == set(known)

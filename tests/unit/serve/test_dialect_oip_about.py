"""What the Open Inference Protocol tells of server and model."""

import json
from functools import partial
from typing import Any

import pytest

from edgeloop.bundle import Bundle
from serve.dialects import oip_about
from serve.dialects.dialect import Asked, Served, View
from serve.dialects.oip_tensors import VALUES, outputs_of
from serve.dialects.routes import ROUTES
from serve.tally import KEPT_BUNDLES, Tallies, Tally
from tests.asked import EMBEDDER, MULTI, PAIRS, SINGLE, TAGGER, refusal, scored

MODEL = "/v2/models/{model}"


def ask(
    view: View, bundle: Bundle = SINGLE, live: bool = True, ready: bool = True, **names: str
) -> tuple[int, Any]:
    tally = Tally()
    tally.add([scored([0.0, 1.0]), scored([0.0, 1.0])])
    reply = view(Served(bundle, live, ready, tally), Asked(b"", names=names))
    return reply.status, json.loads(reply.body)


def test_the_extensions_are_listed() -> None:
    status, server = ask(oip_about.about_server)
    assert (status, server["name"]) == (200, "edgeloop")
    assert "binary_tensor_data" in server["extensions"]


@pytest.mark.parametrize(
    ("live", "ready", "statuses"),
    [(True, True, (200, 200)), (True, False, (200, 503)), (False, False, (503, 503))],
)
def test_health_is_told_by_the_status_and_the_body(
    live: bool, ready: bool, statuses: tuple[int, int]
) -> None:
    is_live, is_ready = (
        ask(view, SINGLE, live, ready) for view in (oip_about.live, oip_about.ready)
    )
    assert (is_live[0], is_ready[0]) == statuses
    for status, body in (is_live, is_ready):
        assert (body["live"], body["ready"]) == (live, ready)
        assert ("error" in body) == (status == 503)
    status, body = ask(oip_about.model_ready, SINGLE, live, ready)
    assert (status, body["ready"]) == (200 if ready else 503, ready)


@pytest.mark.parametrize("bundle", [SINGLE, PAIRS, MULTI, TAGGER, EMBEDDER])
def test_every_task_tells_its_tensors(bundle: Bundle) -> None:
    _, model = ask(oip_about.about_model, bundle)
    _, config = ask(oip_about.model_config, bundle)
    names = [tensor["name"] for tensor in model["inputs"]]
    assert names == (["text", "text_pair"] if bundle is PAIRS else ["text"])
    assert [tensor["name"] for tensor in config["input"]] == names
    outputs = [tensor["name"] for tensor in model["outputs"]]
    assert [tensor["name"] for tensor in config["output"]] == outputs
    assert set(outputs) <= set(VALUES)
    assert outputs == [about.name for about in outputs_of(bundle.manifest)]
    assert bundle.digest.startswith(model["versions"][0])


def test_the_figures_are_those_of_the_tally() -> None:
    _, reply = ask(oip_about.model_stats)
    (stats,) = reply["model_stats"]
    assert (stats["inference_count"], stats["inference_stats"]["success"]["count"]) == (2, 1)
    assert stats["inference_stats"]["fail"]["count"] == 0
    assert stats["last_inference"] > 1_600_000_000_000


@pytest.mark.parametrize("part", ["", "/ready", "/config", "/stats"])
def test_another_model_or_version_is_unknown(part: str) -> None:
    for route in (ROUTES[MODEL + part], ROUTES[f"{MODEL}/versions/{{version}}{part}"]):
        view = route.views["GET"]
        assert ask(view, model="tiny", version=SINGLE.digest[:12])[0] == 200
        assert refusal(partial(ask, view, model="other")).status == 404
        assert refusal(partial(ask, view, model="tiny", version="1")).status == 404


def test_the_index_has_the_one_model() -> None:
    _, rows = ask(oip_about.index)
    assert [(row["name"], row["state"]) for row in rows] == [("tiny", "READY")]
    served = Served(SINGLE, False, False, Tally())
    (row,) = json.loads(oip_about.index(served, Asked(b"{}")).body)
    assert row["state"] == "UNAVAILABLE"
    assert json.loads(oip_about.index(served, Asked(b'{"ready": true}')).body) == []
    assert refusal(lambda: oip_about.index(served, Asked(b"nope"))).status == 400


def test_loading_is_not_done_here() -> None:
    problem = refusal(lambda: ask(oip_about.refuse_loading, model="tiny"))
    assert problem.status == 403
    assert "admin" in problem.message


def test_only_the_last_bundles_are_counted() -> None:
    tallies = Tallies()
    tallies.of("first").failed = 3
    assert tallies.of("first").failed == 3
    for i in range(KEPT_BUNDLES):
        tallies.of(str(i)).failed = i
    assert tallies.of("first").failed == 0
    assert tallies.of(str(KEPT_BUNDLES - 1)).failed == KEPT_BUNDLES - 1

"""A real server process: shapes, bad input, health, metrics, drift, feedback."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.ledger import LabelledRow, open_ledger
from edgeloop.runtime import OnnxModel, softmax
from tests import tiny
from tests.altered import make_nan
from tests.edge_server import ALARM_WORD, BROKEN_WORD, Server, launch, serving

HEAVY = {"torch", "transformers", "peft", "onnx", "scipy", "sklearn", "pandas", "datasets"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, home: Path) -> Iterator[Server]:
    with serving(bundle=tiny_bundle.path, home=home) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        yield client


def predict(http: httpx.Client, inputs: Any, **options: Any) -> httpx.Response:
    return http.post("/predict", json={"inputs": inputs, **options})


def metric(http: httpx.Client, name: str, **labels: str) -> float:
    families = parse_text(http.get("/metrics").text)
    found = [
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def wait_for_observer(http: httpx.Client) -> dict[str, Any]:
    """The drift status once everything that was answered has been seen."""
    while True:
        status: dict[str, Any] = http.get("/drift").json()
        if status["pending_observations"] == 0:
            return status


def test_a_text_gets_what_the_bundle_itself_answers(
    http: httpx.Client, tiny_bundle: Bundle
) -> None:
    model = OnnxModel(tiny_bundle.file(MODEL), tiny_bundle.file(TOKENIZER), 64)
    for text, label in tiny.sentences(20, seed=7):
        reply = predict(http, text)
        assert reply.status_code == 200
        rows = reply.json()
        assert rows[0]["label"] == label
        assert [r["score"] for r in rows] == sorted((r["score"] for r in rows), reverse=True)
        expected = softmax(model.score([text])[0].logits)
        labels = tiny_bundle.manifest.labels
        assert {r["label"]: r["score"] for r in rows} == pytest.approx(
            dict(zip(labels, expected, strict=True)), abs=1e-6
        )


def test_a_batch_is_answered_like_its_texts_alone(http: httpx.Client) -> None:
    texts = [text for text, _ in tiny.sentences(32, seed=8)]
    batch = predict(http, [[text] for text in texts]).json()
    assert batch == [predict(http, text).json() for text in texts]


def test_raw_scores_are_logits(http: httpx.Client) -> None:
    scores = [row["score"] for row in predict(http, "late parcel", raw_scores=True).json()]
    assert sum(scores) != pytest.approx(1.0, abs=1e-3)
    assert scores == sorted(scores, reverse=True)


def test_answers_carry_their_headers(http: httpx.Client, tiny_bundle: Bundle) -> None:
    reply = http.post("/predict", json={"inputs": "my card"}, headers={"x-request-id": "a-1"})
    assert reply.headers["x-request-id"] == "a-1"
    assert reply.headers["x-edgeloop-bundle"] == tiny_bundle.digest
    assert 0 < float(reply.headers["x-inference-time"]) < float(reply.headers["x-total-time"])
    assert predict(http, "my card").headers["x-request-id"] not in ("", "a-1")


@pytest.mark.parametrize(
    ("content", "status", "error_type"),
    [
        (b"not json", 400, "Validation"),
        (b"", 400, "Validation"),
        (b'{"inputs": "\xff\xfe"}', 400, "Validation"),
        (b'{"inputs": 3}', 422, "Validation"),
        (b'{"inputs": []}', 422, "Validation"),
        (b'{"text": "a"}', 422, "Validation"),
        (b'{"inputs": ["a", "b"]}', 422, "Validation"),
        (json.dumps({"inputs": [["a"]] * 33}).encode(), 422, "Validation"),
        (b'{"inputs": ""}', 400, "Empty"),
        (b'{"inputs": [["a"], [" "]]}', 400, "Empty"),
        (json.dumps({"inputs": "a" * 1_000_000}).encode(), 413, "Validation"),
    ],
)
def test_bad_input_gets_a_client_error(
    http: httpx.Client, content: bytes, status: int, error_type: str
) -> None:
    reply = http.post("/predict", content=content)
    assert reply.status_code == status
    assert reply.json()["error_type"] == error_type
    assert reply.json()["error"]
    assert predict(http, "the server lives").status_code == 200


def test_a_large_body_without_a_length_is_refused(http: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        yield b'{"inputs": "'
        for _ in range(100):
            yield b"a" * 10_000

    assert http.post("/predict", content=chunks()).status_code == 413


def test_a_long_text_needs_truncate(http: httpx.Client) -> None:
    long = "parcel " * 200
    refused = predict(http, long)
    assert refused.status_code == 422
    assert "64 tokens" in refused.json()["error"]
    assert "truncate" in refused.json()["error"]
    assert "[1]" in predict(http, [["short"], [long]]).json()["error"]
    cut = predict(http, long, truncate=True)
    assert cut.json()[0]["label"] == "delivery"
    assert cut.json() == predict(http, "parcel " * 62).json()


def test_a_bad_timeout_header_is_refused(http: httpx.Client) -> None:
    for value in ("soon", "-1"):
        headers = {"x-request-timeout-ms": value}
        assert http.post("/predict", json={"inputs": "a"}, headers=headers).status_code == 422


def test_other_methods_and_paths_are_refused_in_the_same_shape(http: httpx.Client) -> None:
    for reply, status in (
        (http.get("/predict"), 405),
        (http.get("/feedback"), 405),
        (http.get("/nothing/here"), 404),
        (http.post("/health"), 405),
    ):
        assert reply.status_code == status
        assert set(reply.json()) == {"error", "error_type"}


def test_unknown_paths_share_one_series(http: httpx.Client) -> None:
    before = metric(http, "edgeloop_requests_total", route="other", code="404")
    lines = http.get("/metrics").text.count("\n")
    for i in range(5):
        http.get(f"/scan/{i}.php")
    assert metric(http, "edgeloop_requests_total", route="other", code="404") == before + 5
    assert http.get("/metrics").text.count("\n") == lines


def test_health_and_info_tell_what_is_served(http: httpx.Client, tiny_bundle: Bundle) -> None:
    health = http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    info = http.get("/info").json()
    assert info["model"] == "tiny"
    assert info["bundle_digest"] == tiny_bundle.digest
    assert info["labels"] == list(tiny_bundle.manifest.labels)
    assert (info["max_tokens"], info["candidate"]) == (64, "onnx-fp32")


def test_metrics_count_what_was_answered(http: httpx.Client, tiny_bundle: Bundle) -> None:
    names = ("edgeloop_queue_wait_seconds_count", "edgeloop_inference_seconds_count")
    before = [metric(http, name) for name in names]
    answered = metric(http, "edgeloop_requests_total", route="/predict", code="200")
    class_before = metric(http, "edgeloop_predictions_total", **{"class": "repair"})
    refused = metric(http, "edgeloop_rejected_total", reason="invalid")
    assert predict(http, [["pump leak"], ["pump noise"]]).status_code == 200
    assert predict(http, 3).status_code == 422
    assert [metric(http, name) for name in names] == [value + 2 for value in before]
    assert metric(http, "edgeloop_requests_total", route="/predict", code="200") == answered + 1
    assert metric(http, "edgeloop_predictions_total", **{"class": "repair"}) == class_before + 2
    assert metric(http, "edgeloop_rejected_total", reason="invalid") == refused + 1
    assert metric(http, "edgeloop_model_info", digest=tiny_bundle.digest) == 1
    assert metric(http, "edgeloop_inflight_requests") == 1  # the scrape itself


def test_openmetrics_is_given_where_it_is_asked_for(http: httpx.Client) -> None:
    plain = http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain")
    accept = "application/openmetrics-text; version=1.0.0"
    openmetrics = http.get("/metrics", headers={"accept": accept})
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(openmetrics.text)}  # type: ignore[no-untyped-call]
    assert {"edgeloop_requests", "edgeloop_model_info", "edgeloop_test_observations"} <= names


def test_every_answered_text_is_observed(http: httpx.Client) -> None:
    before = wait_for_observer(http)["observations"]
    predict(http, [["one"], ["two"], ["three"]])
    predict(http, "")
    assert wait_for_observer(http)["observations"] == before + 3
    assert metric(http, "edgeloop_test_observations") == before + 3


def test_a_broken_observer_fails_no_request(http: httpx.Client) -> None:
    before = metric(http, "edgeloop_monitor_errors_total")
    assert predict(http, f"please {BROKEN_WORD}").status_code == 200
    wait_for_observer(http)
    assert metric(http, "edgeloop_monitor_errors_total") == before + 1
    assert predict(http, "still there").status_code == 200


def test_a_verdict_is_shown_and_stored(http: httpx.Client, home: Path, tiny_bundle: Bundle) -> None:
    assert http.get("/drift").json()["verdict"] is None
    predict(http, f"sound the {ALARM_WORD}")
    wait_for_observer(http)
    status = http.get("/drift").json()
    assert status["bundle_digest"] == tiny_bundle.digest
    assert status["alarmed"]
    assert status["verdict"]["detector"] == "word"
    (stored,) = open_ledger(home).verdicts("tiny")
    assert json.loads(stored.model_dump_json()) == status["verdict"]


def test_feedback_is_stored_once(http: httpx.Client, home: Path) -> None:
    row = {"id": "f1", "text": "my pump is late", "label": "repair"}
    assert http.post("/feedback", json=row).json() == {"stored": 1}
    assert http.post("/feedback", json=row).json() == {"stored": 0}
    labels, conflicts = open_ledger(home).labels("tiny")
    assert labels == [LabelledRow("f1", "my pump is late", "repair")]
    assert conflicts == []
    assert metric(http, "edgeloop_labels_total", source="feedback") == 1


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"not json", 400),
        (b'{"id": "f2", "text": "a", "label": "sales"}', 422),
        (b'{"id": "f2", "text": "a"}', 422),
        (b'{"id": 2, "text": "a", "label": "repair"}', 422),
        (b'{"id": "f2", "text": "", "label": "repair"}', 400),
        (b'{"id": "f2", "text": "' + b"a" * 1_000_000 + b'", "label": "repair"}', 413),
    ],
)
def test_bad_feedback_is_refused(
    http: httpx.Client, home: Path, content: bytes, status: int
) -> None:
    reply = http.post("/feedback", content=content)
    assert reply.status_code == status
    assert set(reply.json()) == {"error", "error_type"}
    if b"sales" in content:
        assert "billing, delivery, repair" in reply.json()["error"]
    assert "f2" not in [row.id for row in open_ledger(home).labels("tiny")[0]]


def test_the_process_has_no_torch_and_stops_cleanly(tiny_bundle: Bundle) -> None:
    with serving(bundle=tiny_bundle.path) as server:
        assert httpx.post(f"{server.url}/predict", json={"inputs": "a"}).status_code == 200
        no_ledger = httpx.post(
            f"{server.url}/feedback", json={"id": "1", "text": "a", "label": "repair"}
        )
        assert no_ledger.status_code == 503
        assert server.stop() == 0
    assert {"serve", "edgeloop", "onnxruntime"} <= set(server.modules)
    assert not HEAVY & set(server.modules)
    assert "Traceback" not in server.log


def test_a_model_that_answers_nan_is_a_backend_error(tmp_path: Path) -> None:
    bundle = make_nan(tiny.make_bundle(tmp_path / "nan"))
    with serving(bundle=bundle.path) as server, httpx.Client(base_url=server.url) as http:
        reply = predict(http, "unknownword")
        assert (reply.status_code, reply.json()["error_type"]) == (424, "Backend")
        assert predict(http, "my card").status_code == 200
        assert http.get("/health").status_code == 200


def test_a_port_in_use_ends_with_a_clear_message(tiny_bundle: Bundle) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = launch(bundle=tiny_bundle.path, port=port)
        out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert f"RecipeError: 127.0.0.1:{port}: the port is in use" in log
    assert "Traceback" not in log


def test_a_killed_server_leaves_its_port_free(tiny_bundle: Bundle) -> None:
    with serving(bundle=tiny_bundle.path) as first:
        assert httpx.post(f"{first.url}/predict", json={"inputs": "a"}).status_code == 200
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    port = int(first.url.rpartition(":")[2])
    with serving(bundle=tiny_bundle.path, port=port) as second:
        assert httpx.get(f"{second.url}/health").status_code == 200
        assert second.stop() == 0

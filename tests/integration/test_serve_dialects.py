"""Real servers: the same text has the same numbers in every dialect, and no dialect can be hurt."""

import base64
import gzip
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serve.dialects.oip_binary import JSON_LENGTH, write_strings
from tests import tiny
from tests.integration.test_serve_http import metric
from tests.served import PAIR, Task, Tasks, floats, tasks

CLASSIFIERS = ("text-classification", "multi-label-classification")
INFER = "/v2/models/tiny/infer"
# Every route that answers texts, with a body that asks it about one.
BODIES: dict[str, Any] = {
    "/predict": {"inputs": "my card"},
    "/v1/predict": {"inputs": "my card"},
    "/": {"inputs": "my card"},
    "/hf/tiny": {"inputs": "my card"},
    "/classify": {"input": "my card"},
    "/pooling": {"input": "my card"},
    INFER: {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["my card"]}]},
}
TEI_ROUTES = ("/predict", "/v1/predict", "/", "/hf/tiny")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with tasks(tmp_path_factory.mktemp("dialects")) as running:
        yield running


@pytest.fixture
def http(served: Tasks) -> httpx.Client:
    return served("text-classification").http


def post(task: Task, path: str, document: Any) -> Any:
    reply = task.http.post(path, json=document)
    assert reply.status_code == 200, reply.text
    return reply.json()


def infer(task: Task, texts: list[str], **parameters: Any) -> dict[str, NDArray[Any]]:
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts}
    reply = post(task, INFER, {"inputs": [tensor], "parameters": parameters})
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in reply["outputs"]
    }


def by_label(rows: list[dict[str, Any]]) -> list[float]:
    scores = {row["label"]: row["score"] for row in rows}
    return [scores[label] for label in tiny.LABELS]


# -- identical numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_text_has_the_same_scores_in_every_dialect(served: Tasks, name: str) -> None:
    task = served(name)
    texts = [row.text for row in tiny.rows(name, 8, seed=5)]
    expected = [by_label(rows) for rows in post(task, "/predict", {"inputs": [[t] for t in texts]})]
    for path in ("/", "/hf/tiny"):
        assert [by_label(rows) for rows in post(task, path, {"inputs": texts})] == expected
    assert [row["probs"] for row in post(task, "/classify", {"input": texts})["data"]] == expected
    assert [row["data"] for row in post(task, "/pooling", {"input": texts})["data"]] == expected
    np.testing.assert_array_equal(infer(task, texts)["probs"], floats(expected))
    ours = post(task, "/v1/predict", {"inputs": [[t] for t in texts]})["predictions"]
    for prediction, scores in zip(ours, expected, strict=True):
        for label, score in zip(prediction["labels"], prediction["scores"], strict=True):
            assert scores[tiny.LABELS.index(label)] == score


def test_logits_are_the_same_where_they_can_be_asked_for(served: Tasks) -> None:
    task = served("text-classification")
    raw = by_label(post(task, "/predict", {"inputs": "late card", "raw_scores": True}))
    parameters = {"function_to_apply": "none"}
    (rows,) = post(task, "/", {"inputs": "late card", "parameters": parameters})
    assert by_label(rows) == raw
    document = {"input": "late card", "use_activation": False}
    for path, field in (("/classify", "probs"), ("/pooling", "data")):
        assert post(task, path, document)["data"][0][field] == raw


def test_entities_are_the_same_in_every_dialect(served: Tasks) -> None:
    task = served("token-classification")
    for row in tiny.rows("token-classification", 4, seed=5):
        expected = post(task, "/predict", {"inputs": row.text})
        assert len(expected) == len(row.spans)
        assert post(task, "/", {"inputs": row.text}) == expected
        assert json.loads(infer(task, [row.text])["entities"][0]) == expected
        (ours,) = post(task, "/v1/predict", {"inputs": row.text})["predictions"]
        told = [(s["start"], s["end"], s["score"], s["label"]) for s in ours["spans"]]
        assert told == [(e["start"], e["end"], e["score"], e["entity_group"]) for e in expected]


def test_vectors_are_the_same_in_every_dialect(served: Tasks) -> None:
    task = served("text-embedding")
    texts = [row.text for row in tiny.rows("text-embedding", 5, seed=5)]
    expected = post(task, "/embed", {"inputs": texts})
    assert post(task, "/", {"inputs": texts}) == expected
    assert post(task, "/v1/predict", {"inputs": texts})["embeddings"] == expected
    asked = {"model": "tiny", "input": texts}
    assert [d["embedding"] for d in post(task, "/v1/embeddings", asked)["data"]] == expected
    packed = post(task, "/v1/embeddings", {**asked, "encoding_format": "base64"})["data"]
    for row, vector in zip(packed, expected, strict=True):
        numbers = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
        np.testing.assert_array_equal(numbers, floats(vector))
    assert [d["data"] for d in post(task, "/pooling", asked)["data"]] == expected
    np.testing.assert_array_equal(infer(task, texts)["embedding"], floats(expected))


def test_pairs_are_the_same_in_every_dialect_that_has_them(served: Tasks) -> None:
    task = served(PAIR)
    for row in tiny.rows("text-classification", 4, seed=5, text_pair=True):
        expected = by_label(post(task, "/predict", {"inputs": [row.text, row.text_pair]}))
        pair = {"text": row.text, "text_pair": row.text_pair}
        (rows,) = post(task, "/", {"inputs": pair})
        assert by_label(rows) == expected
        inputs = [
            {"name": name, "shape": [1], "datatype": "BYTES", "data": [text]}
            for name, text in pair.items()
        ]
        probs = post(task, INFER, {"inputs": inputs})["outputs"][0]["data"]
        np.testing.assert_array_equal(floats(probs), floats(expected))


def test_every_dialect_is_observed_and_counted(served: Tasks) -> None:
    task = served("text-classification")
    before = metric(task.http, "edgeloop_inference_seconds_count")
    for path, document in BODIES.items():
        post(task, path, document)
    assert metric(task.http, "edgeloop_inference_seconds_count") == before + len(BODIES)
    route = "/v2/models/{model}/infer"
    assert metric(task.http, "edgeloop_requests_total", route=route, code="200") >= 1
    (stats,) = task.http.get("/v2/models/tiny/stats").json()["model_stats"]
    assert stats["inference_count"] >= len(BODIES)


# -- names, errors and deadlines ---------------------------------------------------------------


def shaped(path: str, reply: httpx.Response) -> str:
    """The message of an error that has the shape of its dialect."""
    document = reply.json()
    if path in TEI_ROUTES:
        assert set(document) == {"error", "error_type"}
        return str(document["error"])
    if path == INFER:
        assert set(document) == {"error"}
        return str(document["error"])
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    return str(document["error"]["message"])


@pytest.mark.parametrize("path", BODIES)
def test_every_error_has_the_shape_of_its_dialect(http: httpx.Client, path: str) -> None:
    invalid = 422 if path in TEI_ROUTES else 400
    for reply, status in (
        (http.put(path), 405),
        (http.post(path, content=b"nope"), 400),
        (http.post(path, json={"some": "thing"}), invalid),
        (http.post(path, content=b"a" * 300_000), 413),
        (http.post(path, content=gzip.compress(b"a" * 9_000_000), headers=GZIP), 413),
        (http.post(path, content=b"a", headers={"content-type": "text/plain"}), 415),
        (http.post(path, json=BODIES[path], headers={"x-request-timeout-ms": "x"}), invalid),
        (http.post(path, json=long_text(path)), invalid),
        (http.post(path, json=renamed(path, f"to{path}"), headers=AT_ONCE), 504),
    ):
        assert reply.status_code == status, reply.text
        assert shaped(path, reply)
    allowed = "GET, POST" if path == "/" else "POST"  # the console's page
    assert http.put(path).headers["allow"] == allowed
    assert "64 tokens" in shaped(path, http.post(path, json=long_text(path)))


GZIP = {"content-encoding": "gzip"}


AT_ONCE = {"x-request-timeout-ms": "1e-9"}


def renamed(path: str, text: str) -> Any:
    """The body with another text: one that was answered before may be answered at once."""
    return json.loads(json.dumps(BODIES[path]).replace("my card", text))


def long_text(path: str) -> Any:
    return renamed(path, "parcel " * 200)


def test_a_long_text_is_cut_on_request_in_every_dialect(http: httpx.Client) -> None:
    for path, field in (
        ("/predict", {"truncate": True}),
        ("/", {"parameters": {"truncate": True}}),
        ("/classify", {"truncate_prompt_tokens": -1}),
        (INFER, {"parameters": {"truncate": True}}),
    ):
        reply = http.post(path, json={**long_text(path), **field})
        assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/hf/other", {"inputs": "a"}),
        ("/classify", {"input": "a", "model": "other"}),
        ("/pooling", {"input": "a", "model": "other"}),
        ("/v1/embeddings", {"input": "a", "model": "other"}),
        ("/v2/models/other/infer", BODIES[INFER]),
        ("/v2/models/tiny/versions/1/infer", BODIES[INFER]),
        ("/v2/nothing", {}),
        ("/v1/nothing", {}),
        ("/nothing", {}),
        ("/v2/models/..%2f..%2fmetrics/infer", BODIES[INFER]),
    ],
)
def test_other_models_and_paths_are_not_found(http: httpx.Client, path: str, document: Any) -> None:
    reply = http.post(path, json=document)
    assert reply.status_code == 404
    assert reply.json()["error"]


def test_a_version_is_the_beginning_of_the_digest(served: Tasks) -> None:
    task = served("text-classification")
    for version in (task.bundle.digest, task.bundle.digest[:12]):
        assert task.http.get(f"/v2/models/tiny/versions/{version}").status_code == 200
        path = f"/v2/models/tiny/versions/{version}/infer"
        assert task.http.post(path, json=BODIES[INFER]).status_code == 200
    assert task.http.get(f"/v2/models/tiny/versions/{task.bundle.digest[:11]}").status_code == 404


def test_a_timeout_parameter_is_a_deadline(http: httpx.Client) -> None:
    document = {**renamed(INFER, "too late"), "parameters": {"timeout": 0.001}}
    reply = http.post(INFER, json=document)
    assert (reply.status_code, set(reply.json())) == (504, {"error"})


def test_loading_is_refused_on_the_public_listener(http: httpx.Client) -> None:
    for verb in ("load", "unload"):
        reply = http.post(f"/v2/repository/models/tiny/{verb}")
        assert reply.status_code == 403
        assert "admin" in reply.json()["error"]


def test_head_is_answered_like_get(http: httpx.Client) -> None:
    reply = http.head("/v2/models/tiny")
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


# -- hostile requests --------------------------------------------------------------------------


def test_deflated_bodies_get_the_same_answer(http: httpx.Client) -> None:
    for path, document in BODIES.items():
        body = json.dumps(document).encode()
        plain = http.post(path, content=body).json()
        for encoding, data in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
            reply = http.post(path, content=data, headers={"content-encoding": encoding})
            assert reply.status_code == 200, reply.text
            assert same(reply.json()) == same(plain)


def same(document: Any) -> Any:
    """Without what differs from one answer to the next."""
    if isinstance(document, dict):
        return {k: v for k, v in document.items() if k not in ("id", "created", "timings")}
    return document


HOSTILE = [
    b'{"inputs": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"input": ' + b'{"a":' * 20_000 + b"1" + b"}" * 20_000 + b"}",
    b'{"inputs": NaN, "input": NaN}',
    b'{"inputs": 1e999, "input": 1e999}',
    b'{"inputs": ' + b"9" * 20_000 + b"}",
    b'{"inputs": "\xff", "input": "\xff"}',
    b'{"inputs": "\\ud800", "input": "\\ud800"}',
    b'{"inputs": "a\x00b", "input": "a\x00b"}',
    b'{"inputs": "a\\u0000b"}',
    b'{"input": "a\\u0000b"}',
    b"\x00" * 100,
    b"[" * 100_000,
    b"",
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_bodies_get_a_client_error_everywhere(http: httpx.Client, body: bytes) -> None:
    for path in (*BODIES, "/v1/embeddings", "/embed", "/feedback"):
        reply = http.post(path, content=body)
        assert 400 <= reply.status_code < 500, (path, reply.text)
    assert http.post("/predict", json=BODIES["/predict"]).status_code == 200


@pytest.mark.parametrize(
    ("data", "length", "size"),
    [
        (b"", "5", 5),
        (write_strings(["a"]), "99999", 5),
        (write_strings(["a"]), "-1", 5),
        (b"\xff\xff\xff\xff", None, 4),
        (b"\xff\xff\xff\x7fabc", None, 7),
        (write_strings(["a", "b"]), None, 10),
        (write_strings(["a"]) + b"x", None, 5),
        (b"\x01\x00\x00\x00\xff", None, 5),
        (b"\x01\x00\x00\x00\x00", None, 5),
        (write_strings(["a"]), None, 2**70),
    ],
)
def test_broken_binary_tensors_get_a_client_error(
    http: httpx.Client, data: bytes, length: str | None, size: int
) -> None:
    parameters = {"binary_data_size": size}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {JSON_LENGTH.decode(): str(len(head)) if length is None else length}
    reply = http.post(INFER, content=head + data, headers=headers)
    assert (reply.status_code, set(reply.json())) == (400, {"error"})


def test_a_request_that_is_cut_off_leaves_the_server_well(served: Tasks) -> None:
    task = served("text-classification")
    host, _, port = task.url.removeprefix("http://").partition(":")
    for part in (
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{",
        b"\x00\x01",
        b"GET",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(part)
    assert task.http.post("/predict", json=BODIES["/predict"]).status_code == 200

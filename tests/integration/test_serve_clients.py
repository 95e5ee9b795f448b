"""The dialects' own clients against real servers: tritonclient, openai, huggingface_hub; and the
requests of KServe's, which needs an older python-dateutil than the rest.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import huggingface_hub
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tritonclient.utils import InferenceServerException

from edgeloop.rows import first_text
from edgeloop.runtime import softmax
from tests import tiny
from tests.integration.test_serve_dialects import INFER, by_label, post
from tests.served import PAIR, Task, Tasks, floats, tasks

SINGLE, MULTI = "text-classification", "multi-label-classification"
TEXTS = [text for text, _ in tiny.sentences(5, seed=6)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    with tasks(tmp_path_factory.mktemp("clients")) as running:
        yield running


# -- tritonclient --------------------------------------------------------------------------------


def triton_client(task: Task) -> Any:
    return closing(triton.InferenceServerClient(task.url.removeprefix("http://")))


def triton_inputs(texts: list[str], binary: bool, name: str = "text", wide: bool = False) -> Any:
    shape = [len(texts), 1] if wide else [len(texts)]
    tensor = triton.InferInput(name, shape, "BYTES")
    values = np.array([text.encode() for text in texts], dtype=object).reshape(shape)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def expected_scores(task: Task, texts: list[str]) -> Any:
    rows = post(task, "/predict", {"inputs": [[text] for text in texts]})
    return floats([by_label(row) for row in rows])


@pytest.mark.parametrize("name", [SINGLE, MULTI])
@pytest.mark.parametrize("binary", [True, False])
def test_triton_gets_the_scores(served: Tasks, name: str, binary: bool) -> None:
    task = served(name)
    with triton_client(task) as client:
        asked = [triton.InferRequestedOutput(n, binary_data=binary) for n in ("probs", "label")]
        inputs = [triton_inputs(TEXTS, binary, wide=binary)]
        reply = client.infer("tiny", inputs, outputs=asked, request_id="r-1")
        np.testing.assert_array_equal(reply.as_numpy("probs"), expected_scores(task, TEXTS))
        assert reply.get_response()["id"] == "r-1"
        labels = [str(one, "utf-8") if binary else one for one in reply.as_numpy("label")]
        v1 = post(task, "/v1/predict", {"inputs": [[text] for text in TEXTS]})["predictions"]
        assert labels == ["|".join(prediction["labels"]) for prediction in v1]
        assert reply.as_numpy("score") is None


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_triton_may_compress_and_name_no_output(
    served: Tasks, binary: bool, algorithm: str | None
) -> None:
    task = served(SINGLE)
    with triton_client(task) as client:
        reply = client.infer(
            "tiny",
            [triton_inputs(TEXTS, binary)],
            model_version=task.bundle.digest[:12],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        np.testing.assert_array_equal(reply.as_numpy("probs"), expected_scores(task, TEXTS))
        assert reply.as_numpy("score").shape == (len(TEXTS),)


def test_triton_gets_entities_vectors_and_pairs(served: Tasks) -> None:
    with triton_client(served("token-classification")) as client:
        reply = client.infer("tiny", [triton_inputs(TEXTS, True)])
        assert reply.as_numpy("entities")[0].startswith(b'[{"entity_group":')
    vectors = post(served("text-embedding"), "/embed", {"inputs": TEXTS})
    with triton_client(served("text-embedding")) as client:
        reply = client.infer("tiny", [triton_inputs(TEXTS, True)])
        np.testing.assert_array_equal(reply.as_numpy("embedding"), floats(vectors))
    row = tiny.rows(SINGLE, 1, seed=4, text_pair=True)[0]
    assert row.text_pair is not None
    with triton_client(served(PAIR)) as client:
        pair = [
            triton_inputs([first_text(row.input)], True),
            triton_inputs([row.text_pair], True, "text_pair"),
        ]
        assert client.infer("tiny", pair).as_numpy("label").tolist() == [row.label.encode()]


def test_triton_gets_classes(served: Tasks) -> None:
    task = served(SINGLE)
    with triton_client(task) as client:
        for binary in (True, False):
            asked = [triton.InferRequestedOutput("probs", binary_data=binary, class_count=2)]
            reply = client.infer("tiny", [triton_inputs(TEXTS, True)], outputs=asked)
            classes = reply.as_numpy("probs")
            assert classes.shape == (len(TEXTS), 2)
            best = classes[0][0] if isinstance(classes[0][0], str) else classes[0][0].decode()
            score, index, label = best.split(":")
            expected = expected_scores(task, TEXTS[:1])[0]
            assert (int(index), label) == (expected.argmax(), tiny.LABELS[expected.argmax()])
            assert floats(score) == expected.max()


def test_triton_sees_server_and_model(served: Tasks) -> None:
    task = served(SINGLE)
    version = task.bundle.digest[:12]
    with triton_client(task) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert client.is_model_ready("tiny", version)
        assert not client.is_model_ready("other")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        assert client.get_model_metadata("tiny")["inputs"][0]["datatype"] == "BYTES"
        assert client.get_model_config("tiny", version)["max_batch_size"] == 32
        for model in ("", "tiny"):
            (stats,) = client.get_inference_statistics(model)["model_stats"]
            assert stats["name"] == "tiny"
        (entry,) = client.get_model_repository_index()
        assert (entry["name"], entry["version"], entry["state"]) == ("tiny", version, "READY")


def test_triton_reads_the_errors(served: Tasks) -> None:
    with triton_client(served(SINGLE)) as client:
        inputs = [triton_inputs(TEXTS, True)]
        failing: list[tuple[str, Callable[[], Any]]] = [
            ("not served", lambda: client.infer("other", inputs)),
            ("not served", lambda: client.infer("tiny", inputs, model_version="1")),
            (
                "deadline",
                lambda: client.infer("tiny", [triton_inputs(["too late"], True)], timeout=1),
            ),
            ("priority", lambda: client.infer("tiny", inputs, priority=2)),
            ("sequence_id", lambda: client.infer("tiny", inputs, sequence_id=2)),
            ("cannot be empty", lambda: client.infer("tiny", [triton_inputs([" "], True)])),
            ("image", lambda: client.infer("tiny", [triton_inputs(["a"], True, "image")])),
            ("admin", lambda: client.load_model("tiny")),
            ("admin", lambda: client.unload_model("tiny")),
        ]
        for says, ask in failing:
            with pytest.raises(InferenceServerException, match=says):
                ask()
        assert client.infer("tiny", inputs, timeout=5_000_000).as_numpy("label") is not None


# -- openai --------------------------------------------------------------------------------------


@pytest.fixture
def embeddings(served: Tasks) -> Iterator[openai.OpenAI]:
    url = served("text-embedding").url
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_openai_gets_the_vectors(served: Tasks, embeddings: openai.OpenAI) -> None:
    expected = post(served("text-embedding"), "/embed", {"inputs": TEXTS})
    packed = embeddings.embeddings.create(model="tiny", input=TEXTS)
    np.testing.assert_array_equal(floats([row.embedding for row in packed.data]), floats(expected))
    plain = embeddings.embeddings.create(
        model="tiny",
        input=TEXTS[0],
        encoding_format="float",
        dimensions=len(expected[0]),
        user="someone",
    )
    assert plain.data[0].embedding == expected[0]
    assert (plain.model, plain.object, plain.data[0].index) == ("tiny", "list", 0)
    assert plain.usage.total_tokens == len(TEXTS[0].split()) + 2


def test_openai_sees_the_model(served: Tasks, embeddings: openai.OpenAI) -> None:
    (model,) = embeddings.models.list().data
    assert (model.id, model.owned_by) == ("tiny", "edgeloop")
    assert embeddings.models.retrieve("tiny") == model
    digest = served("text-embedding").bundle.digest
    assert embeddings.models.retrieve(digest[:12]) == model


def test_openai_reads_the_errors(served: Tasks, embeddings: openai.OpenAI) -> None:
    create = embeddings.embeddings.create
    with pytest.raises(openai.NotFoundError) as missing:
        create(model="text-embedding-3-small", input="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        embeddings.models.retrieve("other")
    with pytest.raises(openai.BadRequestError, match="token ids"):
        create(model="tiny", input=[1, 2, 3])
    with pytest.raises(openai.BadRequestError, match="dimensions 3"):
        create(model="tiny", input="a", dimensions=3)
    with pytest.raises(openai.InternalServerError, match="deadline") as late:
        create(model="tiny", input="too late", extra_headers={"x-request-timeout-ms": "1e-9"})
    assert (late.value.status_code, late.value.code) == (504, "timeout")
    url = served(SINGLE).url
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="no vectors"),
    ):
        client.embeddings.create(model="tiny", input="a")


# -- huggingface_hub -------------------------------------------------------------------------------


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> InferenceClient:
    """The tests are offline, which this client takes to include loopback."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return InferenceClient()


@pytest.mark.parametrize("path", ["/", "/hf/tiny"])
def test_the_inference_client_classifies(served: Tasks, client: InferenceClient, path: str) -> None:
    for name in (SINGLE, MULTI):
        task = served(name)
        url = task.url + path
        found = client.text_classification(TEXTS[0], model=url)
        expected = post(task, "/predict", {"inputs": TEXTS[0]})
        assert [(e.label, e.score) for e in found] == [(p["label"], p["score"]) for p in expected]
        (best,) = client.text_classification(TEXTS[0], model=url, top_k=1)
        assert best.label == expected[0]["label"]
        none = client.text_classification(TEXTS[0], model=url, function_to_apply="none")
        logits = floats([element.score for element in none])
        if name == SINGLE:
            np.testing.assert_allclose(softmax(logits), [e.score for e in found], rtol=1e-6)


def test_the_inference_client_tags_and_embeds(served: Tasks, client: InferenceClient) -> None:
    tagger = served("token-classification")
    found = client.token_classification(TEXTS[0], model=tagger.url, aggregation_strategy="simple")
    expected = post(tagger, "/predict", {"inputs": TEXTS[0]})
    told = [(e.entity_group, e.word, e.start, e.end, e.score) for e in found]
    assert told == [
        (e["entity_group"], e["word"], e["start"], e["end"], e["score"]) for e in expected
    ]
    embedder = served("text-embedding")
    vectors = client.feature_extraction(TEXTS[0], model=embedder.url, normalize=True, truncate=True)
    np.testing.assert_array_equal(vectors, floats(post(embedder, "/embed", {"inputs": TEXTS[0]})))


def test_the_inference_client_reads_the_errors(served: Tasks, client: InferenceClient) -> None:
    for url, says in (
        (served(SINGLE).url + "/hf/other", "not served"),
        (served("text-embedding").url, "top_k"),
    ):
        with pytest.raises(HfHubHTTPError) as problem:
            client.text_classification("a", model=url, top_k=1)
        assert problem.value.response is not None
        assert says in problem.value.response.json()["error"]


# -- KServe --------------------------------------------------------------------------------------


def test_kserves_requests_are_answered(served: Tasks) -> None:
    """Those of InferenceRESTClient(RESTConfig(protocol="v2")): it reads `ready` and `live`."""
    task = served(SINGLE)
    assert task.http.get("/v2/health/live").json()["live"] is True
    assert task.http.get("/v2/health/ready").json()["ready"] is True
    assert task.http.get("/v2/models/tiny/ready").json()["ready"] is True
    assert task.http.get("/v2/models").json() == {"models": ["tiny"]}
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXTS[0]]}
    reply = post(task, INFER, {"id": "k-1", "model_name": "tiny", "inputs": [tensor]})
    assert {"model_name", "model_version", "id", "parameters", "outputs"} == set(reply)
    assert reply["id"] == "k-1"
    other = {"model_name": "other", "inputs": [tensor]}
    assert task.http.post(INFER, json=other).status_code == 404
    for output in reply["outputs"]:
        assert {"name", "shape", "datatype", "data"} == set(output)
        assert len(output["data"]) == np.prod(output["shape"])

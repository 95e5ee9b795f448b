"""A real server process for a bundle of every task, asked as its clients ask."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.rows import Row
from edgeloop.runtime import OnnxModel, RowOutput
from edgeloop.tasks import TASKS, sigmoid
from tests import tiny
from tests.edge_server import serving

# The surest answers of the tiny classifier pass, those to unknown words do not.
BELOW = 0.6
UNSURE = "zebra zebra zebra"


class Served:
    """A bundle, a client of its server, and the model to compare with."""

    def __init__(self, bundle: Bundle, client: httpx.Client) -> None:
        self.bundle = bundle
        self.http = client
        self.model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), 64)

    def post(self, path: str, inputs: Any, **options: Any) -> httpx.Response:
        return self.http.post(path, json={"inputs": inputs, **options})

    def answers(self, rows: list[Row]) -> list[RowOutput]:
        return self.model.score(TASKS[self.bundle.manifest.task].inputs(rows))


Serve = Callable[[str], Served]
PAIR = "pair"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """The server of a task, started at its first use; PAIR is text-classification of pairs."""
    running: dict[str, Served] = {}
    with ExitStack() as stack:

        def served(name: str) -> Served:
            if name not in running:
                folder = tmp_path_factory.mktemp(name)
                task = "text-classification" if name == PAIR else name
                below = BELOW if name == "text-classification" else None
                bundle = tiny.make_bundle(
                    folder / "bundle", task=task, text_pair=name == PAIR, abstain_below=below
                )
                server = stack.enter_context(serving(bundle=bundle.path, home=folder / "home"))
                client = httpx.Client(base_url=server.url, timeout=20)
                running[name] = Served(bundle, stack.enter_context(client))
            return running[name]

        yield served


def metric(served: Served, line: str) -> float:
    (found,) = [m for m in served.http.get("/metrics").text.splitlines() if m.startswith(line)]
    return float(found.rpartition(" ")[2])


def observed(served: Served) -> int:
    while (status := served.http.get("/drift").json())["pending_observations"]:
        continue
    return int(status["observations"])


# -- several labels ----------------------------------------------------------------------------


def test_several_labels_come_with_their_own_probabilities(serve: Serve) -> None:
    served = serve("multi-label-classification")
    for row in tiny.rows("multi-label-classification", 10, seed=4):
        found = served.post("/predict", row.text).json()
        assert {p["label"] for p in found if p["score"] >= 0.5} == set(row.labels)
        (output,) = served.answers([row])
        expected = dict(zip(tiny.LABELS, sigmoid(output.logits), strict=True))
        assert {p["label"]: p["score"] for p in found} == pytest.approx(expected)


def test_the_v1_answer_names_the_chosen_labels_alone(serve: Serve) -> None:
    served = serve("multi-label-classification")
    rows = tiny.rows("multi-label-classification", 12, seed=4)
    reply = served.post("/v1/predict", [[row.text] for row in rows]).json()
    assert [tuple(p["labels"]) for p in reply["predictions"]] == [row.labels for row in rows]
    assert all(len(p["labels"]) == len(p["scores"]) for p in reply["predictions"])
    assert reply["embeddings"] == []


def test_a_text_without_a_label_counts_as_outside(serve: Serve) -> None:
    served = serve("multi-label-classification")
    name = 'edgeloop_predictions_total{class="O"'
    before = metric(served, name)
    assert served.post("/v1/predict", "my the is").json()["predictions"][0]["labels"] == []
    assert metric(served, name) == before + 1


# -- pairs -------------------------------------------------------------------------------------


def test_a_pair_is_one_input_and_its_second_text_matters(serve: Serve) -> None:
    served = serve(PAIR)
    rows = tiny.rows("text-classification", 12, seed=4, text_pair=True)
    for row in rows:
        found = served.post("/predict", [row.text, row.text_pair]).json()
        assert found[0]["label"] == row.label
    batch = served.post("/predict", [[row.text, row.text_pair] for row in rows]).json()
    assert [answer[0]["label"] for answer in batch] == [row.label for row in rows]
    assert served.http.get("/info").json()["text_pair"] is True


def test_a_pair_counts_as_one_observation(serve: Serve) -> None:
    served = serve(PAIR)
    before = observed(served)
    served.post("/predict", [["tax", "leak"], ["door", "late"]])
    assert observed(served) == before + 2


@pytest.mark.parametrize("task", TASKS)
def test_the_monitor_takes_the_answers_of_every_task(serve: Serve, task: str) -> None:
    served = serve(task)
    before = observed(served)
    assert served.post("/v1/predict", ["tax"]).status_code == 200
    assert observed(served) == before + 1
    assert metric(served, "edgeloop_monitor_errors_total") == 0


def test_feedback_on_pairs_is_refused(serve: Serve) -> None:
    row = {"id": "1", "text": "a", "label": "repair"}
    reply = serve(PAIR).http.post("/feedback", json=row)
    assert reply.status_code == 422
    assert "pairs" in reply.json()["error"]


# -- entities ----------------------------------------------------------------------------------


def test_entities_are_the_spans_of_the_text(serve: Serve) -> None:
    served = serve("token-classification")
    for row in tiny.rows("token-classification", 10, seed=4):
        found = served.post("/predict", row.text).json()
        spans = [(e["start"], e["end"], e["entity_group"]) for e in found]
        assert spans == [(s.start, s.end, s.label) for s in row.spans]
        assert all(e["word"] == row.text[e["start"] : e["end"]] for e in found)
        assert all(0.5 < e["score"] <= 1.0 for e in found)


def test_the_v1_answer_has_the_spans(serve: Serve) -> None:
    row = tiny.rows("token-classification", 1, seed=4)[0]
    reply = serve("token-classification").post("/v1/predict", row.text).json()
    (prediction,) = reply["predictions"]
    assert [(s["start"], s["end"], s["label"]) for s in prediction["spans"]] == [
        (s.start, s.end, s.label) for s in row.spans
    ]
    assert [s["text"] for s in prediction["spans"]] == [
        row.text[s.start : s.end] for s in row.spans
    ]
    assert prediction["labels"] == []


def test_a_text_without_entities_is_answered(serve: Serve) -> None:
    served = serve("token-classification")
    assert served.post("/predict", "my the is").json() == []
    assert served.post("/predict", [["my the"], ["tax"]]).json()[0] == []


def test_feedback_on_entities_is_refused(serve: Serve) -> None:
    row = {"id": "1", "text": "a", "label": "repair"}
    reply = serve("token-classification").http.post("/feedback", json=row)
    assert reply.status_code == 422
    assert "token-classification" in reply.json()["error"]


# -- vectors -----------------------------------------------------------------------------------


def test_vectors_are_those_of_the_model(serve: Serve) -> None:
    served = serve("text-embedding")
    rows = tiny.rows("text-embedding", 4, seed=4)
    texts = TASKS["text-embedding"].inputs(rows)
    expected = [output.embedding for output in served.answers(rows)]
    found = served.post("/embed", texts).json()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert served.post("/embed", texts[0]).json() == found[:1]
    reply = served.post("/v1/predict", texts).json()
    assert (reply["embeddings"], reply["predictions"]) == (found, [])


def test_a_model_of_vectors_names_embed(serve: Serve) -> None:
    served = serve("text-embedding")
    reply = served.post("/predict", "a")
    assert reply.status_code == 422
    assert "/embed" in reply.json()["error"]
    assert metric(served, 'edgeloop_requests_total{code="422",model="tiny",route="/predict"') == 1


def test_a_long_text_is_embedded_on_request_only(serve: Serve) -> None:
    served = serve("text-embedding")
    assert served.post("/embed", ["tax", "parcel " * 200]).status_code == 422
    assert served.post("/embed", "parcel " * 200, truncate=True).status_code == 200


# -- one label: abstention and our own shape ---------------------------------------------------


def test_a_model_of_labels_has_no_vectors(serve: Serve) -> None:
    reply = serve("text-classification").post("/embed", "a")
    assert reply.status_code == 422
    assert "/predict" in reply.json()["error"]


def test_an_answer_below_the_threshold_is_marked_and_counted(serve: Serve) -> None:
    served = serve("text-classification")
    before = metric(served, "edgeloop_abstained_total")
    sure = served.post("/predict", "invoice refund tax")
    unsure = served.post("/predict", UNSURE)
    assert sure.headers["x-edgeloop-abstained"] == "false"
    assert unsure.headers["x-edgeloop-abstained"] == "true"
    batch = served.post("/predict", [["invoice refund tax"], [UNSURE], ["parcel door late"]])
    assert batch.headers["x-edgeloop-abstained"] == "false,true,false"
    assert metric(served, "edgeloop_abstained_total") == before + 2
    assert unsure.json()[0]["score"] < BELOW < sure.json()[0]["score"]


def test_our_own_shape_tells_all_of_an_answer(serve: Serve) -> None:
    served = serve("text-classification")
    reply = served.post("/v1/predict", ["invoice refund tax"])
    document = reply.json()
    plain = served.post("/predict", "invoice refund tax").json()[0]
    (prediction,) = document["predictions"]
    assert prediction == {
        "labels": ["billing"],
        "scores": [plain["score"]],
        "spans": [],
        "score": plain["score"],
        "abstained": False,
    }
    assert document["bundle"] == served.bundle.digest
    assert document["timings"]["queue_ms"] >= 0.0
    assert document["timings"]["inference_ms"] > 0.0
    assert served.post("/v1/predict", UNSURE).json()["predictions"][0]["abstained"] is True


def test_without_a_threshold_no_answer_is_marked(serve: Serve) -> None:
    reply = serve(PAIR).post("/predict", UNSURE)
    assert "x-edgeloop-abstained" not in reply.headers


@pytest.mark.parametrize("path", ["/embed", "/v1/predict"])
def test_other_methods_and_bad_bodies_get_a_client_error(serve: Serve, path: str) -> None:
    http = serve("text-embedding").http
    assert http.get(path).status_code == 405
    for content, status in ((b"nope", 400), (b'{"inputs": 3}', 422), (b'{"inputs": ""}', 400)):
        reply = http.post(path, content=content)
        assert (reply.status_code, set(reply.json())) == (status, {"error", "error_type"})


@pytest.mark.parametrize("task", TASKS)
def test_info_tells_the_task(serve: Serve, task: str) -> None:
    served = serve(task)
    info = served.http.get("/info").json()
    assert info["task"] == task
    assert info["labels"] == list(served.bundle.manifest.labels)
    assert info["abstain_below"] == served.bundle.manifest.abstain_below

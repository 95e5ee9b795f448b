"""Replay through a loopback server that speaks the same shapes as `edgeloop serve`."""

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.errors import MonitorError, RecipeError
from edgeloop.observer import observed
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from monitor.observer import DriftObserver
from monitor.replay import POLL_EVERY_REQUESTS, Row, check_replayable, replay
from tests import monitored, tiny

ORDINARY: list[Row] = [
    (f"o{i}", text, label) for i, (text, label) in enumerate(tiny.sentences(60, seed=77))
]
SHIFTED: list[Row] = [(f"s{i}", "gas bottle swap my cylinder", None) for i in range(80)]
FAILING = "fail"


def quiet(_: str) -> None:
    """Progress that nobody watches."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("replayed"))


class Loopback(HTTPServer):
    """Scores with the bundle's model, watches with its observer."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bundle = bundle
        self.observer = DriftObserver(bundle)
        self.model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), 64)
        self.verdict: object = None
        self.task = bundle.manifest.task
        self.ids: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Loopback
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for a delayed acknowledgement

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert body["truncate"] is True
        self.server.ids.append(self.headers["x-request-id"])
        if body["inputs"] == FAILING:
            self._answer(503, {"error": "busy"})
            return
        answered = self.server.model.answer(body["inputs"])
        labels = self.server.bundle.manifest.labels
        seen = observed(body["inputs"], answered, TASKS["text-classification"], labels)
        verdict = self.server.observer.observe(seen)
        if verdict is not None:
            self.server.verdict = verdict.model_dump(mode="json")
        self._answer(200, {"predictions": [{"labels": list(seen.answer.labels)}]})

    def do_GET(self) -> None:
        if self.path == "/info":
            manifest = self.server.bundle.manifest
            self._answer(200, {"task": self.server.task, "text_pair": manifest.text_pair})
            return
        status = asdict(self.server.observer.status())
        head = {"pending_observations": 0, "bundle_digest": self.server.bundle.digest}
        self._answer(200, {**status, **head, "verdict": self.server.verdict})

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: the requests are asserted, not read."""


@pytest.fixture
def server(bundle: Bundle) -> Iterator[Loopback]:
    with Loopback(bundle) as loopback:
        thread = threading.Thread(target=loopback.serve_forever)
        thread.start()
        yield loopback
        loopback.shutdown()
        thread.join()


def url(server: Loopback) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_ordinary_traffic_is_scored_without_an_alarm(server: Loopback) -> None:
    said: list[str] = []
    result = replay(ORDINARY, url(server), said.append)
    assert (result.sent, result.failed, result.verdict) == (60, 0, None)
    assert result.requests_until_alarm is None
    assert result.accuracy is not None
    assert result.accuracy > 0.9
    assert [at for at, _ in result.evidence] == [*range(0, 61, POLL_EVERY_REQUESTS), 60]
    assert server.ids == [row_id for row_id, _, _ in ORDINARY]
    assert said[-1] == "replay: 60 of 60 sent, 0 failed"


def test_the_alarm_is_counted_from_the_first_shifted_request(server: Loopback) -> None:
    replay(ORDINARY, url(server), quiet)
    result = replay(SHIFTED, url(server), quiet)
    assert result.verdict is not None
    assert result.requests_until_alarm == result.verdict.observation - 60
    assert result.verdict.log_evidence >= result.verdict.threshold
    assert result.accuracy is None
    assert (result.sent, result.alarmed_before) == (80, False)


def test_a_replay_may_stop_at_the_alarm(server: Loopback) -> None:
    result = replay(SHIFTED, url(server), quiet, stop_at_alarm=True)
    assert result.requests_until_alarm is not None
    assert result.requests_until_alarm <= result.sent < 80
    assert result.sent % POLL_EVERY_REQUESTS == 0


def test_an_alarm_of_earlier_traffic_is_not_taken_for_a_new_one(server: Loopback) -> None:
    replay(SHIFTED, url(server), quiet)
    result = replay(ORDINARY, url(server), quiet)
    assert result.alarmed_before
    assert (result.verdict, result.requests_until_alarm) == (None, None)


def test_failed_requests_are_counted_and_the_replay_goes_on(server: Loopback) -> None:
    rows = [("é", FAILING, "billing"), *ORDINARY[:3]]
    result = replay(rows, url(server), quiet)
    assert (result.sent, result.failed) == (4, 1)
    assert server.ids[0] == "?"
    assert result.evidence[-1][0] == 3


def test_a_server_that_is_not_there_is_an_error(server: Loopback) -> None:
    with pytest.raises(MonitorError, match="edgeloop serve"):
        replay(ORDINARY, "http://127.0.0.1:9", quiet)


def test_a_server_of_another_kind_is_an_error(server: Loopback) -> None:
    server.verdict = {"not": "a verdict"}
    with pytest.raises(MonitorError, match="GET /drift"):
        replay(ORDINARY, url(server), quiet)


def test_where_every_request_fails_nothing_was_replayed(server: Loopback) -> None:
    rows: list[Row] = [(f"f{i}", FAILING, None) for i in range(3)]
    with pytest.raises(MonitorError, match="all 3 requests to /v1/predict failed .*503"):
        replay(rows, url(server), quiet)


def test_what_is_no_url_is_bad_input() -> None:
    with pytest.raises(RecipeError, match="http://host:abc: is no URL"):
        replay(ORDINARY, "http://host:abc", quiet)


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_a_model_without_labels_is_refused_with_what_to_do(server: Loopback, task: str) -> None:
    server.task = task
    with pytest.raises(RecipeError, match=f"task is {task}; .* GET /drift"):
        replay(ORDINARY, url(server), quiet)
    assert server.ids == []


def test_a_model_of_pairs_is_refused() -> None:
    with pytest.raises(RecipeError, match="reads pairs of texts"):
        check_replayable("text-classification", text_pair=True)

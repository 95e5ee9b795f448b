"""Keys, TLS, the access log and the capture, in a real server process."""

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from edgeloop.bundle import Bundle
from serve.capture.store import all_rows, delete_rows, list_segments, locked
from serve.keyfile import SCOPES, add_key, revoke_key
from serve.metrics import ROUTE_CODES
from tests import tiny
from tests.certificates import Authority, Pair
from tests.edge_server import Server, launch, serving
from tests.integration.test_serve_http import metric

CLIENTS = 8
TIMEOUT_SECONDS = 30.0
SECRET = "jane.doe@example.org"


def ask(http: httpx.Client, text: str = "my card", **headers: str) -> httpx.Response:
    return http.post("/predict", json={"inputs": text}, headers=headers)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# -- keys --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest.fixture(scope="module")
def everything(key_file: Path) -> str:
    return add_key(key_file, "everything", SCOPES)


@pytest.fixture(scope="module")
def guarded(tiny_bundle: Bundle, key_file: Path, everything: str) -> Iterator[Server]:
    with serving(bundle=tiny_bundle.path, keys={"file": str(key_file)}, access_log=True) as running:
        yield running


@pytest.fixture
def http(guarded: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, timeout=TIMEOUT_SECONDS) as client:
        yield client


@pytest.mark.parametrize("route", [*ROUTE_CODES, "/", "/admin/bundles", "/docs"])
def test_no_route_but_health_answers_without_a_key(http: httpx.Client, route: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        reply = http.request(method, route if route.startswith("/") else "/none")
        if route == "/health":
            assert reply.status_code in (200, 405)
            continue
        if (method, route) == ("GET", "/"):  # the console's page, which asks for the key
            assert reply.headers["content-type"].startswith("text/html")
            continue
        assert reply.status_code == 401
        assert reply.json()["error"]
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "x-request-id" in reply.headers


def test_every_dialect_says_it_in_its_own_shape(http: httpx.Client) -> None:
    said = {
        route: http.post(route, json={}).json()["error"]
        for route in ("/predict", "/v1/embeddings", "/classify", "/v2/models/tiny/infer")
    }
    assert said["/v1/embeddings"]["code"] == "invalid_api_key"
    assert said["/classify"]["code"] == 401
    assert "x-api-key" in said["/predict"]
    assert "x-api-key" in said["/v2/models/tiny/infer"]
    assert http.get("/v2/health/live").status_code == 200
    assert http.get("/v2/health/ready").status_code == 200


def test_a_key_opens_the_routes_of_its_scopes(
    http: httpx.Client, key_file: Path, everything: str
) -> None:
    assert ask(http, **bearer(everything)).status_code == 200
    assert ask(http, **{"x-api-key": everything}).status_code == 200
    assert http.get("/metrics", headers=bearer(everything)).status_code == 200
    assert http.get("/none", headers=bearer(everything)).status_code == 404


def test_a_new_key_works_and_a_revoked_one_stops_without_a_restart(
    http: httpx.Client, key_file: Path, everything: str
) -> None:
    key = add_key(key_file, "shop", ("predict",))
    while ask(http, **bearer(key)).status_code == 401:
        time.sleep(0.05)
    assert ask(http, **bearer(key)).status_code == 200
    reply = http.get("/metrics", headers=bearer(key))
    assert (reply.status_code, reply.json()["error_type"]) == (403, "Forbidden")
    revoke_key(key_file, "shop")
    while ask(http, **bearer(key)).status_code == 200:
        time.sleep(0.05)
    assert ask(http, **bearer(key)).status_code == 401
    assert ask(http, **bearer(everything)).status_code == 200


def test_refusals_are_counted_and_the_rate_holds_per_key(
    http: httpx.Client, key_file: Path, everything: str
) -> None:
    slow = add_key(key_file, "slow", ("predict",), requests_per_second=0.001, burst=3)
    while ask(http, **bearer(slow)).status_code == 401:
        time.sleep(0.05)
    codes = [ask(http, **bearer(slow)).status_code for _ in range(4)]
    assert codes == [200, 200, 429, 429]
    reply = ask(http, **bearer(slow))
    assert int(reply.headers["retry-after"]) > 1
    assert int(reply.headers["retry-after-ms"]) > 1000
    assert reply.json()["error_type"] == "Overloaded"
    assert ask(http, **bearer(everything)).status_code == 200
    http.headers.update(bearer(everything))
    assert metric(http, "edgeloop_rejected_total", reason="rate_limited") == 3
    assert metric(http, "edgeloop_rejected_total", reason="unauthorized") > 0
    assert metric(http, "edgeloop_requests_total", route="/predict", code="429") == 3


def test_the_log_names_keys_and_never_shows_them_or_a_text(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    key = add_key(tmp_path / "keys.json", "shop", ("predict",))
    with serving(
        bundle=tiny_bundle.path, keys={"file": str(tmp_path / "keys.json")}, access_log=True
    ) as server:
        with httpx.Client(base_url=server.url) as http:
            ask(http, f"mail {SECRET}", **bearer(key), **{"x-request-id": 'a"code=500'})
            ask(http, SECRET, **bearer("el_00000000_wrong-secret"), **{"x-request-id": "b"})
            http.post(f"/{SECRET}?q={SECRET}", headers=bearer(key))
        assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if "event=request " in line]
    assert len(lines) == 3
    assert r'id="a\"code=500" method=POST route=/predict code=200 ' in lines[0]
    assert lines[0].endswith("key=shop")
    assert re.search(r'id="b" method=POST route=/predict code=401 ms=\d+\.\d{3} key=-$', lines[1])
    assert "route=other code=404" in lines[2]
    for never in (key, key.split("_")[2], SECRET, "wrong-secret"):
        assert never not in server.log


def test_without_keys_nothing_changes_and_nothing_is_logged(tiny_bundle: Bundle) -> None:
    with serving(bundle=tiny_bundle.path) as server:
        with httpx.Client(base_url=server.url) as http:
            assert ask(http).status_code == 200
        assert server.stop() == 0
    assert "event=request " not in server.log


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"keys": {"file": "/none/keys.json"}}, "no such file of keys"),
        ({"tls": {"certificate": "/none/a.pem", "key": "/none/b.pem"}}, "tls.certificate"),
        ({"capture": {"folder": "/dev/null/rows"}}, "capture.folder"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(
    tiny_bundle: Bundle, options: dict[str, object], says: str
) -> None:
    process = launch(bundle=tiny_bundle.path, **options)
    out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == ("", 1)
    assert "RecipeError" in err
    assert says in err
    assert "Traceback" not in err


# -- TLS ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


def settings(pair: Pair, client_ca: Path | None = None) -> dict[str, str | None]:
    return {
        "certificate": str(pair.certificate),
        "key": str(pair.key),
        "client_ca": None if client_ca is None else str(client_ca),
    }


def test_answers_are_encrypted_and_plain_requests_are_not_answered(
    tiny_bundle: Bundle, authority: Authority, pair: Pair
) -> None:
    with serving(bundle=tiny_bundle.path, tls=settings(pair)) as server:
        assert server.url.startswith("https://")
        with httpx.Client(base_url=server.url, verify=authority.client()) as http:
            assert ask(http).status_code == 200
        plain = server.url.replace("https:", "http:")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{plain}/health")
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_only_clients_of_the_authority_are_answered(
    tiny_bundle: Bundle, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger").issue("client")
    with serving(bundle=tiny_bundle.path, tls=settings(pair, authority.path)) as server:
        known = authority.client(authority.issue("client"))
        with httpx.Client(base_url=server.url, verify=known) as http:
            assert ask(http).status_code == 200
        for context in (authority.client(), authority.client(stranger)):
            with pytest.raises(httpx.HTTPError):
                httpx.get(f"{server.url}/health", verify=context)
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_renewed_certificate_is_shown_without_a_restart(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    old, new = (Authority(tmp_path, name) for name in ("old", "new"))
    pair = old.issue("server")
    with serving(bundle=tiny_bundle.path, tls=settings(pair)) as server:
        assert httpx.get(f"{server.url}/health", verify=old.client()).status_code == 200
        renewed = new.issue("renewed")
        pair.key.write_bytes(renewed.key.read_bytes())
        pair.certificate.write_bytes(renewed.certificate.read_bytes())
        while True:
            try:
                httpx.get(f"{server.url}/health", verify=new.client())
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/health", verify=old.client())


def test_sigterm_under_load_loses_no_encrypted_answer(
    tiny_bundle: Bundle, authority: Authority, pair: Pair
) -> None:
    """Clients that keep their connection, and clients that make a new one every time."""
    outcomes: set[int | str] = set()
    answered: list[int] = []
    context = authority.client()

    def keep() -> None:
        with httpx.Client(base_url=server.url, verify=context, timeout=TIMEOUT_SECONDS) as http:
            while True:
                try:
                    reply = ask(http)
                except httpx.HTTPError as problem:
                    outcomes.add(type(problem).__name__)
                    return
                outcomes.add(reply.status_code)
                answered.append(1)
                if reply.headers.get("connection") == "close":
                    return

    def anew() -> None:
        while True:
            try:
                with httpx.Client(
                    base_url=server.url, verify=context, timeout=TIMEOUT_SECONDS
                ) as http:
                    outcomes.add(ask(http).status_code)
                    answered.append(1)
            except httpx.ConnectError as problem:
                if "refused" in str(problem):
                    return
                outcomes.add(f"{type(problem).__name__} {problem}")
                return
            except httpx.HTTPError as problem:
                outcomes.add(type(problem).__name__)
                return

    with serving(bundle=tiny_bundle.path, tls=settings(pair), drain_seconds=0.2) as server:
        threads = [threading.Thread(target=keep if i % 2 else anew) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        while len(answered) < 100 and not outcomes - {200}:
            time.sleep(0.01)
        assert server.stop() == 0
        for thread in threads:
            thread.join(TIMEOUT_SECONDS)
    assert outcomes == {200}
    assert "Traceback" not in server.log


# -- capture -----------------------------------------------------------------------------------


def options(folder: Path, **changes: object) -> dict[str, object]:
    return {"folder": str(folder), "share": 1.0, **changes}


def test_answers_are_captured_redacted_and_deleted_by_their_request(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    capture = options(folder, patterns={"order": r"AB-\d+"})
    with serving(bundle=tiny_bundle.path, capture=capture) as server:
        with httpx.Client(base_url=server.url) as http:
            texts = [f"mail {SECRET}", "order AB-123, card 4111 1111 1111 1111", "my card"]
            body = {"inputs": [[text] for text in texts]}
            reply = http.post("/predict", json=body, headers={"x-request-id": "first"})
            assert reply.status_code == 200
            ask(http, "second text", **{"x-request-id": "second"})
            while metric(http, "edgeloop_captured_rows_total") < 4:
                time.sleep(0.02)
            rows = list(all_rows(folder))
            assert [row.texts[0] for row in rows] == [
                "mail <email>",
                "order <order>, card <card>",
                "my card",
                "second text",
            ]
            assert [(row.id, row.index) for row in rows] == [
                ("first", 0),
                ("first", 1),
                ("first", 2),
                ("second", 0),
            ]
            best = [classes[0] for classes in reply.json()]
            assert [(row.labels[0], round(row.scores[0], 6)) for row in rows[:3]] == [
                (said["label"], round(said["score"], 6)) for said in best
            ]
            assert {row.bundle for row in rows} == {tiny_bundle.digest}
            assert delete_rows(folder, "first") == 3
            ask(http, "third text")
            while metric(http, "edgeloop_captured_rows_total") < 5:
                time.sleep(0.02)
        assert server.stop() == 0
    assert [row.texts[0] for row in all_rows(folder)] == ["second text", "third text"]
    assert SECRET not in server.log
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in folder.rglob("*"))


@pytest.mark.parametrize(
    ("task", "inputs", "texts", "is_labelled"),
    [
        ("multi-label-classification", "my card", ("my card",), None),
        ("token-classification", "my card", ("my card",), None),
        ("text-embedding", ["my card"], ("my card",), False),
        ("text-classification", ["my card", f"to {SECRET}"], ("my card", "to <email>"), True),
    ],
    ids=["labels", "entities", "vectors", "pair"],
)
def test_every_task_is_captured(
    tmp_path: Path, task: str, inputs: object, texts: tuple[str, ...], is_labelled: bool | None
) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle", task=task, text_pair=len(texts) == 2)
    with serving(bundle=bundle.path, capture=options(tmp_path / "rows")) as server:
        reply = httpx.post(f"{server.url}/v1/predict", json={"inputs": inputs})
        assert reply.status_code == 200
        assert server.stop() == 0
    (row,) = all_rows(tmp_path / "rows")
    assert row.texts == texts
    assert len(row.labels) == len(row.scores)
    assert is_labelled is None or bool(row.labels) is is_labelled


def test_a_hung_capture_disk_changes_nothing_but_a_counter(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    with (
        serving(bundle=tiny_bundle.path, capture=options(folder)) as server,
        locked(folder),
        httpx.Client(base_url=server.url) as http,
    ):
        texts = {"inputs": [["my card"]] * 32}
        for _ in range(40):
            assert http.post("/predict", json=texts).status_code == 200
        assert metric(http, "edgeloop_capture_dropped_total", reason="ring_full") > 0
        assert http.get("/health").status_code == 200
        assert server.stop() == 0
    assert "capture_pending" in server.log


def test_what_was_captured_survives_kill_and_the_torn_line_is_set_right(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    with serving(bundle=tiny_bundle.path, capture=options(folder)) as server:
        with httpx.Client(base_url=server.url) as http:
            ask(http, "before")
            while metric(http, "edgeloop_captured_rows_total") < 1:
                time.sleep(0.02)
        server.stop(signal.SIGKILL)
    (segment,) = list_segments(folder)
    with segment.path.open("ab") as stream:
        stream.write(b'{"id":"torn","ind')
    assert [row.texts[0] for row in all_rows(folder)] == ["before"]
    with serving(bundle=tiny_bundle.path, capture=options(folder)) as server:
        with httpx.Client(base_url=server.url) as http:
            ask(http, "after")
        assert server.stop() == 0
    assert [row.texts[0] for row in all_rows(folder)] == ["before", "after"]
    for found in list_segments(folder):
        for line in found.path.read_text(encoding="utf-8").splitlines():
            json.loads(line)

"""Keys: made once, kept as hashes, checked by scope, time and rate."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Scope

from edgeloop.errors import RecipeError
from serve.keyfile import SCOPES, KeyScope, add_key, digest, key_id, read_keys, revoke_key, utc_now
from serve.keys import OPEN_ROUTES, Bucket, Guard, needed_scope, presented_key
from serve.metrics import REJECTIONS, ROUTE_CODES
from serve.refused import Refused


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def request(key: str | None = None, path: str = "/predict", header: str = "x-api-key") -> Scope:
    headers = [] if key is None else [(header.encode(), key.encode())]
    return {"type": "http", "path": path, "headers": headers}


def refusal(guard: Guard, scope: Scope) -> Refused:
    with pytest.raises(Refused) as refused:
        guard.admit(scope)
    assert refused.value.reason in REJECTIONS
    return refused.value


# -- the file ----------------------------------------------------------------------------------


def test_a_key_is_not_in_its_file(file: Path) -> None:
    key = add_key(file, "shop", ("predict",))
    text = file.read_text(encoding="utf-8")
    assert key not in text
    assert key.split("_", 2)[2] not in text
    assert digest(key).hex() in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == [file.name]


def test_keys_are_long_and_all_different(file: Path) -> None:
    keys = [add_key(file, f"k{i}", ("predict",)) for i in range(20)]
    assert len(set(keys)) == len(keys)
    assert all(len(key.split("_", 2)[2]) >= 43 for key in keys)
    assert [key_id(key) for key in keys] == [entry.id for entry in read_keys(file).keys]


def test_revoking_takes_one_away_by_name_or_id(file: Path) -> None:
    first, _ = add_key(file, "a", ("predict",)), add_key(file, "b", ("admin",))
    revoke_key(file, key_id(first))
    assert [entry.name for entry in read_keys(file).keys] == ["b"]
    revoke_key(file, "b")
    assert read_keys(file).keys == ()
    with pytest.raises(RecipeError, match="no key b; there are: none"):
        revoke_key(file, "b")


def test_a_name_is_taken_once(file: Path) -> None:
    add_key(file, "shop", ("predict",))
    before = file.read_bytes()
    with pytest.raises(RecipeError, match="a key shop already"):
        add_key(file, "shop", ("admin",))
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "two words"}, "name"),
        ({"name": ""}, "name"),
        ({"requests_per_second": 0.0}, "requests_per_second"),
        ({"requests_per_second": float("nan")}, "requests_per_second"),
        ({"burst": 0}, "burst"),
        ({"expires_days": 0.0}, "above 0"),
        ({"expires_days": 1e9}, "36500"),
        ({"scopes": ()}, "scopes"),
    ],
)
def test_impossible_keys_are_not_made(file: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        add_key(file, **{"name": "shop", "scopes": ("predict",), **changes})
    assert not file.exists()


def test_a_file_that_is_none_of_keys_is_refused_with_what_is_wrong(file: Path) -> None:
    with pytest.raises(RecipeError, match="edgeloop keys add"):
        read_keys(file)
    file.write_text("{", encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(RecipeError, match=r"keys\.json"):
        read_keys(file)
    add_key(other := file.with_name("other.json"), "shop", ("predict",))
    document = json.loads(other.read_text(encoding="utf-8"))
    document["keys"][0]["scopes"] = ["everything"]
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"keys\.0\.scopes"):
        read_keys(file)
    document = json.loads(other.read_text(encoding="utf-8"))
    document["keys"] *= 2
    file.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(RecipeError, match="same id"):
        read_keys(file)


def test_a_key_in_the_wrong_place_is_not_shown(file: Path) -> None:
    key = add_key(file, "shop", ("predict",))
    document = json.loads(file.read_text(encoding="utf-8"))
    for field in ("sha256", "id", "scopes", "expires_at"):
        wrong = {**document["keys"][0], field: key}
        file.write_text(json.dumps({"schema_version": 1, "keys": [wrong]}), encoding="utf-8")
        with pytest.raises(RecipeError, match=rf"keys\.0\.{field}") as problem:
            read_keys(file)
        assert key not in str(problem.value)


def test_keys_that_are_made_at_once_are_all_there(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: add_key(file, f"k{i}", ("predict",)), range(24)))
    assert {entry.name for entry in read_keys(file).keys} == {f"k{i}" for i in range(24)}


def test_a_file_that_others_may_write_is_refused(file: Path) -> None:
    add_key(file, "shop", ("predict",))
    file.chmod(0o666)
    with pytest.raises(RecipeError, match="chmod 600"):
        read_keys(file)


# -- the guard ---------------------------------------------------------------------------------


def test_without_a_file_everything_is_open() -> None:
    guard = Guard(None)
    assert guard.admit(request()) is None
    assert guard.check(request(), "admin") is None
    assert guard.reload()


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_opens_what_its_scopes_name_and_says_its_name(file: Path, header: str) -> None:
    key = add_key(file, "shop", ("predict", "metrics"))
    guard = Guard(file)
    sent = f"Bearer {key}" if header == "authorization" else key
    assert guard.admit(request(sent, header=header)) == "shop"
    assert guard.admit(request(sent, "/metrics", header)) == "shop"
    for path in ("/feedback", "/admin/bundles", "/v2/repository/models/tiny/load"):
        problem = refusal(guard, request(sent, path, header))
        assert (problem.status, problem.reason) == (403, "forbidden")
        assert key not in problem.message


@pytest.mark.parametrize("path", [*ROUTE_CODES, "/", "/no/such", "/health/", "//health", "/HEALTH"])
def test_every_route_but_health_needs_a_key(file: Path, path: str) -> None:
    add_key(file, "shop", SCOPES)
    guard = Guard(file)
    if path in OPEN_ROUTES:
        assert guard.admit(request(path=path)) is None
        return
    problem = refusal(guard, request(path=path))
    assert (problem.status, problem.reason) == (401, "unauthorized")
    assert (b"www-authenticate", b"Bearer") in problem.headers


def test_what_is_not_the_key_is_refused(file: Path) -> None:
    key = add_key(file, "shop", ("predict",))
    guard = Guard(file)
    wrong = [key[:-1], key + "x", key.upper(), key[:12], "", "el__", f"el_00000000_{key[12:]}", "é"]
    for attempt in wrong:
        assert refusal(guard, request(attempt)).status == 401


@given(presented=st.binary(max_size=80))
@settings(max_examples=200)
def test_no_bytes_break_the_check(
    presented: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "property-keys.json"
    if not file.exists():
        add_key(file, "shop", ("predict",))
    guard = Guard(file)
    for header in ((b"x-api-key", presented), (b"authorization", b"Bearer " + presented)):
        assert refusal(guard, {"path": "/predict", "headers": [header]}).status == 401


def test_an_expired_key_is_refused(file: Path) -> None:
    created = utc_now() - timedelta(days=2)
    old = add_key(file, "old", ("predict",), expires_days=1.0, now=lambda: created)
    young = add_key(file, "young", ("predict",), expires_days=3.0, now=lambda: created)
    guard = Guard(file)
    assert "expired" in refusal(guard, request(old)).message
    assert guard.admit(request(young)) == "young"


def test_over_its_rate_a_key_is_told_when_to_come_back(file: Path) -> None:
    key = add_key(file, "shop", ("predict",), requests_per_second=2.0, burst=3)
    free = add_key(file, "free", ("predict",))
    clock = Clock()
    guard = Guard(file, clock)
    for _ in range(3):
        guard.admit(request(key))
    problem = refusal(guard, request(key))
    assert (problem.status, problem.reason) == (429, "rate_limited")
    assert dict(problem.headers) == {b"retry-after": b"1", b"retry-after-ms": b"500"}
    assert guard.admit(request(free)) == "free"
    clock.seconds += 0.5
    assert guard.admit(request(key)) == "shop"


def test_a_reload_takes_new_keys_forgets_revoked_ones_and_fills_no_bucket(file: Path) -> None:
    key = add_key(file, "shop", ("predict",), requests_per_second=1.0, burst=1)
    gone = add_key(file, "gone", ("predict",))
    guard = Guard(file, Clock())
    guard.admit(request(key))
    new = add_key(file, "new", ("predict",))
    revoke_key(file, "gone")
    assert refusal(guard, request(new)).status == 401
    assert guard.reload()
    assert guard.admit(request(new)) == "new"
    assert refusal(guard, request(gone)).status == 401
    assert refusal(guard, request(key)).status == 429


def test_a_broken_file_leaves_the_old_keys(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(file, "shop", ("predict",))
    guard = Guard(file)
    file.write_text("{}}", encoding="utf-8")
    assert not guard.reload()
    assert guard.admit(request(key)) == "shop"
    assert "keys_not_reloaded" in caplog.text


def test_the_first_key_of_the_headers_counts() -> None:
    headers = [(b"authorization", b"Basic eA=="), (b"x-api-key", b" k "), (b"x-api-key", b"l")]
    assert presented_key({"headers": headers}) == "k"
    assert presented_key({"headers": headers[:1]}) is None


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/predict", "predict"),
        ("/v1/embeddings", "predict"),
        ("/v2/models/tiny/infer", "predict"),
        ("/v2/repository/index", "predict"),
        ("/v2/repository/models/tiny/unload", "admin"),
        ("/feedback", "feedback"),
        ("/metrics", "metrics"),
        ("/admin", "admin"),
        ("/admin/../predict", "admin"),
        ("/nothing", "predict"),
    ],
)
def test_a_route_asks_for_one_scope(path: str, scope: KeyScope) -> None:
    assert needed_scope(path) == scope


# -- the bucket --------------------------------------------------------------------------------


@given(
    rate=st.floats(0.1, 1000.0),
    burst=st.integers(1, 50),
    waits=st.lists(st.floats(-1.0, 5.0), max_size=200),
)
def test_no_more_pass_than_the_rate_allows(rate: float, burst: int, waits: list[float]) -> None:
    now = 0.0
    bucket = Bucket(rate, burst, now)
    passed = longest = 0.0
    for wait in waits:
        now += wait  # a clock may stand still, and go back
        longest += max(0.0, wait)
        passed += bucket.take(now) == 0.0
    assert passed <= burst + rate * longest + 1e-6


@given(rate=st.floats(0.1, 1000.0), burst=st.integers(1, 20))
def test_who_waits_as_told_gets_through(rate: float, burst: int) -> None:
    bucket, now = Bucket(rate, burst, 0.0), 0.0
    for _ in range(burst + 5):
        wait_seconds = bucket.take(now)
        if wait_seconds > 0.0:
            now += wait_seconds * (1 + 1e-9) + 1e-9
            assert bucket.take(now) == 0.0

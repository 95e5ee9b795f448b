"""Settings, the socket, the headers: what is decided before a request is answered."""

import math
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from edgeloop.errors import RecipeError
from edgeloop.ledger import open_ledger
from edgeloop.observer import ObserverStatus
from serve.asking import client_timeout
from serve.config import ServerConfig
from serve.lifecycle_config import Canary
from serve.listener import bind, listen, url
from serve.refused import Refused
from serve.run import SafeCollector, ServerSettings
from serve.wire import milliseconds, request_id


class Quiet:
    """An observer that sees nothing."""

    def observe(self, _: object) -> None:
        return None

    def label(self, _: object) -> None:
        return None

    def status(self) -> ObserverStatus:
        return ObserverStatus(False, 0, 0, 0.0, 0.0, 1, 0.0, 0, False)

    def state(self) -> bytes:
        return b""

    def restore(self, _: bytes) -> None:
        return None


def settings(**changes: Any) -> ServerSettings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "bundle": Path("bundle"),
        "follow": None,
        "ledger": None,
        "make_observer": lambda _: Quiet(),
        "on_verdict": lambda _: None,
    }
    return ServerSettings(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bundle": None}, "either"),
        ({"follow": "tickets"}, "not both"),
        ({"bundle": None, "follow": "tickets"}, "needs a ledger"),
        ({"port": 65536}, "65536"),
        ({"port": -1}, "-1"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        settings(**changes)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (ServerConfig(watch=Path("bundles")), "`watch` in serve.yaml and --follow"),
        (ServerConfig(canary=Canary(bundle=Path("b"), promote=True)), "canary.promote"),
    ],
)
def test_the_ledger_and_serve_yaml_cannot_both_decide(
    tmp_path: Path, config: ServerConfig, says: str
) -> None:
    ledger = open_ledger(tmp_path)
    with pytest.raises(RecipeError, match=says):
        settings(bundle=None, follow="tickets", ledger=ledger, config=config)
    settings(bundle=None, follow="tickets", ledger=ledger)


def test_a_free_port_is_found_and_owned() -> None:
    with bind("127.0.0.1", 0) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RecipeError, match=rf"127\.0\.0\.1:{port}: the port is in use.*--port"):
            bind("127.0.0.1", port)


def test_the_slower_of_two_starting_servers_is_told() -> None:
    with bind("127.0.0.1", 0) as quick:
        port = quick.getsockname()[1]
        with bind("127.0.0.1", port) as slow:
            listen(quick)
            with pytest.raises(RecipeError, match=f"{port}: the port is in use"):
                listen(slow)


def test_an_ipv6_address_is_bracketed() -> None:
    with socket.socket(socket.AF_INET6) as listener:
        assert url(listener) == "http://[::]:0"


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"192\.0\.2\.1"):
        bind("192.0.2.1", 0)


def test_a_request_id_is_kept_where_it_is_harmless() -> None:
    assert request_id(b"order-17/a") == b"order-17/a"
    for bad in (None, b"", b"x" * 129, b"a b", b"ol\xc3\xa1", b"a\tb"):
        fresh = request_id(bad)
        assert fresh != bad
        assert len(fresh) == 32


def test_a_client_may_shorten_its_deadline() -> None:
    assert client_timeout(None) == math.inf
    assert client_timeout(b"250") == 0.25
    for bad in (b"0", b"-3", b"soon", b"nan", b""):
        with pytest.raises(Refused) as caught:
            client_timeout(bad)
        assert caught.value.status == 422


def test_times_are_given_in_milliseconds() -> None:
    assert milliseconds(0.0012345) in (b"1.234", b"1.235")


class BrokenCollector(Collector):
    """Fails when it is read."""

    def collect(self) -> Iterable[Metric]:
        raise RuntimeError("no figures")


def test_a_broken_collector_does_not_break_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    registry.register(SafeCollector(BrokenCollector()))
    assert generate_latest(registry) == b""
    assert "collector_failed" in caplog.text

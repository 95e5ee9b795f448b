"""The small parts around the guard: watched files, open files, quiet logs, the access log."""

import logging
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from serve.access_log import log_request
from serve.open_files import OWN_FILES, raise_open_files, usable_connections
from serve.protocol import AtMostOne
from serve.watch import FileWatch
from serve.wire import AsgiExchange

WAIT_SECONDS = 10.0


def test_every_change_of_a_watched_file_is_told(tmp_path: Path) -> None:
    file, told = tmp_path / "keys.json", threading.Semaphore(0)
    watch = FileWatch([file, tmp_path / "never"], told.release, look_seconds=0.01)
    try:
        for text in ("a", "bb"):
            file.write_text(text, encoding="utf-8")
            assert told.acquire(timeout=WAIT_SECONDS)
        aside = tmp_path / "aside"
        aside.write_text("cc", encoding="utf-8")
        os.replace(aside, file)
        assert told.acquire(timeout=WAIT_SECONDS)
        file.unlink()
        assert told.acquire(timeout=WAIT_SECONDS)
    finally:
        watch.close()
    file.write_text("d", encoding="utf-8")
    assert not told.acquire(timeout=0.05)


def test_a_reload_that_fails_does_not_end_the_watch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, told = tmp_path / "keys.json", threading.Semaphore(0)

    def fail() -> None:
        told.release()
        raise ValueError("broken")

    watch = FileWatch([file], fail, look_seconds=0.01)
    for text in ("a", "bb"):
        file.write_text(text, encoding="utf-8")
        assert told.acquire(timeout=WAIT_SECONDS)
    watch.close()
    assert caplog.text.count("event=reload_failed") == 2


def test_no_more_connections_than_files(caplog: pytest.LogCaptureFixture) -> None:
    hard = raise_open_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    assert usable_connections(1) == 1
    assert caplog.text == ""
    if hard != resource.RLIM_INFINITY:
        assert usable_connections(hard) == hard - OWN_FILES
        assert "event=fewer_connections" in caplog.text


def test_a_flood_of_warnings_becomes_one_line_a_second() -> None:
    once = AtMostOne(seconds=1.0)

    def passes(level: int, created: float) -> bool:
        record = logging.LogRecord("x", level, "x", 1, "x", None, None)
        record.created = created
        return once.filter(record)

    assert [passes(logging.WARNING, 100.0 + i / 4) for i in range(9)] == [
        *[True, False, False, False] * 2,
        True,
    ]
    assert passes(logging.ERROR, 102.0)


def test_an_access_line_cannot_be_forged_by_an_id(caplog: pytest.LogCaptureFixture) -> None:
    scope: dict[str, Any] = {"headers": [(b"x-request-id", b'1"code=200\\')]}

    async def send(_: object) -> None: ...

    exchange = AsgiExchange(scope, send, False)
    exchange.status = 401
    with caplog.at_level(logging.INFO):
        log_request(exchange, "POST", "/predict", None)
    (line,) = caplog.messages
    assert line.startswith(r'event=request id="1\"code=200\\" method=POST route=/predict code=401 ')
    assert line.endswith(" key=-")
    assert time.perf_counter() > exchange.started

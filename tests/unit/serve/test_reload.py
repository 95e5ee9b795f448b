"""SIGHUP: what changes while the server answers, and what a broken file does (nothing)."""

import asyncio
from pathlib import Path

import pytest

from serve.config import ServerConfig, load_config
from serve.reload import Reloader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "serve.yaml"
    path.write_text("queue_texts: 3\ndrain_seconds: 1\n")
    return path


def reloader(path: Path | None) -> tuple[Reloader, list[ServerConfig]]:
    made, seen = Reloader(load_config(path), path), list[ServerConfig]()
    made.add({"queue_texts", "poll_seconds"}, seen.append)
    return made, seen


def test_who_took_a_key_is_told_of_its_change(path: Path) -> None:
    made, seen = reloader(path)
    path.write_text("queue_texts: 4\ndrain_seconds: 1\n")
    asyncio.run(made.reload())
    assert [config.queue_texts for config in seen] == [4]
    assert made.config.queue_texts == 4


def test_the_same_file_changes_nothing(path: Path) -> None:
    made, seen = reloader(path)
    asyncio.run(made.reload())
    assert seen == []


def test_a_key_that_nobody_took_waits_for_the_next_start(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, seen = reloader(path)
    path.write_text("queue_texts: 4\ndrain_seconds: 2\nadmin: {port: 1}\n")
    asyncio.run(made.reload())
    assert "event=setting_ignored key=admin" in caplog.text
    assert "event=setting_ignored key=drain_seconds" in caplog.text
    assert seen == [load_config(path).model_copy(update={"drain_seconds": 1.0, "admin": None})]


def test_a_broken_file_keeps_the_old_and_tells_every_problem(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, seen = reloader(path)
    old = made.config
    path.write_text("queue_texts: -1\npol_seconds: 3\n")
    asyncio.run(made.reload())
    assert (made.config, seen) == (old, [])
    assert caplog.text.count("event=reload_refused") == 2
    assert "did you mean poll_seconds?" in caplog.text
    path.unlink()
    asyncio.run(made.reload())
    assert made.config == old


def test_a_change_that_fails_does_not_stop_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = reloader(path)
    told: list[int] = []

    def fail(_: ServerConfig) -> None:
        raise RuntimeError("no")

    async def later(config: ServerConfig) -> None:
        told.append(config.queue_texts)

    made.add({"queue_texts"}, fail)
    made.add({"queue_texts"}, later)
    path.write_text("queue_texts: 9\n")
    asyncio.run(made.reload())
    assert told == [9]
    assert "event=reload_failed" in caplog.text


def test_other_files_are_read_again_at_every_reload(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = reloader(path)
    told: list[str] = []

    def fail() -> None:
        raise OSError("no keys")

    made.always += [fail, lambda: told.append("keys")]
    asyncio.run(made.reload())
    path.write_text("broken")
    asyncio.run(made.reload())
    assert told == ["keys", "keys"]
    assert "event=reload_failed" in caplog.text


def test_without_a_file_there_is_nothing_to_read(caplog: pytest.LogCaptureFixture) -> None:
    made, seen = reloader(None)
    with caplog.at_level("WARNING"):
        asyncio.run(made.reload())
    assert seen == []
    assert "event=reload_ignored" in caplog.text

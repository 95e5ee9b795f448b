"""What the server keeps on disk, and what it makes of files that are not its own or not whole."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edgeloop.errors import MonitorError, RecipeError
from edgeloop.observer import Observation
from edgeloop.records import Verdict
from serve.feed import Feed
from serve.metrics import ServeMetrics
from serve.state import SCHEMA_VERSION, SERVED, Served, StateFolder
from tests.unit.serve.test_feed import Recorder, finish, observation, verdict

DIGEST = "d" * 64
WAIT_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[StateFolder]:
    made = StateFolder(tmp_path / "state", seconds=0.05)
    yield made
    made.close()


def feed_of(folder: StateFolder, recorder: Recorder, digest: str = DIGEST) -> Feed:
    metrics = ServeMetrics(CollectorRegistry(), "m")
    return Feed(recorder, lambda _: None, metrics, keeper=folder.drift(digest))


def saved(folder: StateFolder, texts: list[str]) -> Path:
    """Let a feed see the texts and end; where its state lies."""
    feed = feed_of(folder, Recorder())
    for text in texts:
        feed.put(observation(text))
    finish(feed)
    return folder.drift(DIGEST).path


def restored(folder: StateFolder, digest: str = DIGEST) -> tuple[list[str], Verdict | None]:
    recorder = Recorder()
    feed = feed_of(folder, recorder, digest)
    feed.restore()
    found = list(recorder.texts), feed.verdict
    feed.forget()
    finish(feed)
    return found


def test_a_feed_goes_on_where_the_last_one_ended(folder: StateFolder) -> None:
    saved(folder, ["one", "alarm", "two"])
    assert restored(folder) == (["one", "alarm", "two"], verdict())


def test_the_state_is_saved_every_tick_while_there_is_news(folder: StateFolder) -> None:
    feed = feed_of(folder, Recorder())
    path = folder.drift(DIGEST).path
    for text in ("one", "two"):
        feed.put(observation(text))
        end = time.monotonic() + WAIT_SECONDS
        while not (path.exists() and text.encode() in path.read_bytes()):
            assert time.monotonic() < end
            time.sleep(0.005)
    written = path.stat().st_mtime_ns
    time.sleep(0.2)  # some ticks without news
    assert path.stat().st_mtime_ns == written
    finish(feed)


def test_a_state_folder_is_its_owners_alone(folder: StateFolder) -> None:
    assert folder.root.stat().st_mode & 0o777 == 0o700


def test_a_slow_disk_does_not_hold_up_who_puts(folder: StateFolder) -> None:
    gate = threading.Event()

    class Stuck(Recorder):
        def state(self) -> bytes:
            assert gate.wait(WAIT_SECONDS)
            return super().state()

    folder.seconds = 0.001
    recorder = Stuck()
    feed = feed_of(folder, recorder)
    for number in range(50):
        feed.put(observation(str(number)))
        time.sleep(0.002)
    gate.set()
    finish(feed)
    assert recorder.texts == [str(number) for number in range(50)]


def test_a_disk_that_cannot_be_written_costs_the_state_alone(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.drift(DIGEST).path.mkdir()  # cannot be replaced by a file
    recorder = Recorder()
    feed = feed_of(folder, recorder)
    feed.put(observation("one"))
    finish(feed)
    assert recorder.texts == ["one"]
    assert "state_not_saved" in caplog.text


def test_a_forgotten_bundle_is_not_saved_any_more(folder: StateFolder) -> None:
    feed = feed_of(folder, Recorder())
    feed.put(observation("one"))
    feed.forget()
    folder.keep_only(set())
    finish(feed)
    folder.keep_only(set())
    assert list(folder.root.glob("drift-*")) == []


def test_only_loaded_bundles_keep_a_state(folder: StateFolder) -> None:
    for digest in ("a" * 64, "b" * 64, "c" * 64):
        folder.drift(digest).path.write_bytes(b"x")
    folder.keep_only({"a" * 64, "c" * 64})
    assert sorted(p.name[6] for p in folder.root.glob("drift-*")) == ["a", "c"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_state_is_set_aside(folder: StateFolder, data: st.DataObject) -> None:
    path = saved(folder, ["one", "two"])
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    path.write_bytes(damaged)
    assert restored(folder) == ([], None)
    assert not path.exists()
    assert path.with_name(f"{path.name}.damaged").read_bytes() == damaged


def test_the_state_of_another_bundle_is_set_aside(
    folder: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    other = "e" * 64
    os.replace(saved(folder, ["one"]), folder.drift(other).path)
    assert restored(folder, other) == ([], None)
    assert "event=state_set_aside" in caplog.text
    assert "dddddddddddd" in caplog.text


def test_a_state_that_the_observer_refuses_is_set_aside(folder: StateFolder) -> None:
    class Proud(Recorder):
        def restore(self, state: bytes) -> None:
            raise MonitorError("another version")

    path = saved(folder, ["one"])
    feed = feed_of(folder, Proud())
    feed.restore()
    finish(feed)
    assert not path.exists()


def served(**changes: object) -> Served:
    values = {
        "schema_version": SCHEMA_VERSION,
        "digest": DIGEST,
        "path": Path("/bundles/a"),
        "named_digest": "e" * 64,
        "watched": "stamp",
        "refused": ("f" * 64,),
    }
    return Served.model_validate({**values, **changes})


def test_what_was_served_is_remembered(folder: StateFolder) -> None:
    assert folder.remembered() is None
    folder.remember(served())
    assert folder.remembered() == served()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", json.dumps({"digest": 3}).encode(), served(schema_version=99).to_bytes()],
)
def test_a_memory_that_cannot_be_read_is_set_aside(folder: StateFolder, content: bytes) -> None:
    (folder.root / SERVED).write_bytes(content)
    assert folder.remembered() is None
    assert (folder.root / f"{SERVED}.damaged").read_bytes() == content


def test_two_servers_do_not_share_a_state_folder(folder: StateFolder) -> None:
    with pytest.raises(RecipeError, match="another server"):
        StateFolder(folder.root, 1.0)
    folder.close()
    StateFolder(folder.root, 1.0).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="state cannot be kept here"):
        StateFolder(tmp_path / "file" / "state", 1.0)


def test_observations_without_a_keeper_are_not_saved(tmp_path: Path) -> None:
    recorder = Recorder()
    feed = Feed(recorder, lambda _: None, ServeMetrics(CollectorRegistry(), "m"))
    feed.restore()
    feed.put(Observation("one", observation("").embedding, observation("").probabilities, 1))
    finish(feed)
    assert recorder.texts == ["one"]

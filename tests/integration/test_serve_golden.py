"""Golden rows that are replayed while a bundle serves: a changed runtime is told from changed
traffic."""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from edgeloop.bundle import GOLDEN, Bundle, write_bundle
from edgeloop.records import FileEntry, Manifest
from serve.autotune import shared
from serve.golden_run import GoldenMetrics
from serve.golden_watch import GoldenWatch
from serve.metrics import ServeMetrics
from serve.slot import Activator, Slot
from tests import tiny
from tests.edge_server import WordObserver, serving
from tests.integration.test_serve_http import metric, predict

WAIT_SECONDS = 20.0


class Watched:
    """A bundle that serves in this process, and the watch of its golden rows."""

    def __init__(self, bundle: Bundle, seconds: float = 0.0) -> None:
        self.registry = CollectorRegistry()
        self.seconds = seconds
        metrics = ServeMetrics(self.registry, "tiny")
        activator = Activator(WordObserver, lambda _: None, metrics, shared(1), 64)
        self.slot = Slot(activator.activate(bundle), metrics)
        self.metrics = GoldenMetrics(self.registry, "tiny", lambda: self.slot.current.golden)
        self.activator = activator

    def watch(self) -> GoldenWatch:
        return GoldenWatch(self.slot, self.metrics, lambda: self.seconds, draw=lambda: 0.5)

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny"})

    def close(self) -> None:
        self.slot.current.close()
        self.slot.current.join(5.0)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tiny.make_bundle(tmp_path / "bundle"))
    yield made
    made.close()


def with_golden_of(bundle: Bundle, golden: Bundle, folder: Path) -> Bundle:
    """The bundle with what another one's model answered to the golden rows."""

    def fill(aside: Path) -> None:
        for entry in bundle.manifest.files:
            source = golden if entry.path == GOLDEN else bundle
            (aside / entry.path).write_bytes(source.file(entry.path).read_bytes())

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        return bundle.manifest.model_copy(update={"files": files})

    return write_bundle(folder, fill, manifest)


def test_the_runtime_that_the_bundle_was_made_on_has_not_changed(watched: Watched) -> None:
    assert [watched.value(n) for n in ("golden_runs_total", "runtime_changed")] == [0.0, 0.0]
    run = asyncio.run(watched.watch().replay())
    assert (run.rows, run.flips, run.damage) == (12, 0, "")
    assert run.largest_difference < 1e-5
    assert not run.runtime_changed
    assert watched.slot.current.golden == run
    assert watched.value("golden_runs_total") == 1.0
    assert watched.value("runtime_changed") == 0.0


def test_scores_of_a_slightly_different_model_are_a_changed_runtime(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every answer is the same, so that the bundle may serve; the probabilities are not."""
    bundle, other = (tiny.make_bundle(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    watched = Watched(with_golden_of(bundle, other, tmp_path / "both"))
    with caplog.at_level(logging.INFO):
        run = asyncio.run(watched.watch().replay())
    assert run.flips == 0
    assert run.largest_difference > 1e-3
    assert watched.value("runtime_changed") == 1.0
    assert watched.value("golden_flip_ratio") == 0.0
    assert watched.value("golden_largest_difference") == run.largest_difference
    assert "event=runtime_changed" in caplog.text
    watched.close()


def test_a_swap_begins_anew(watched: Watched, tmp_path: Path) -> None:
    asyncio.run(watched.watch().replay())
    watched.slot.current.bundle.file("model.onnx").write_bytes(b"gone")
    run = asyncio.run(watched.watch().replay())
    assert run.damage
    assert watched.value("runtime_changed") == 1.0
    old = watched.slot.current
    watched.slot.swap(watched.activator.activate(tiny.make_bundle(tmp_path / "next", seed=2)))
    assert watched.value("runtime_changed") == 0.0
    assert watched.value("golden_runs_total") == 2.0
    old.close()
    old.join(5.0)


def test_damage_on_the_disk_is_seen_though_the_model_in_memory_answers(watched: Watched) -> None:
    path = watched.slot.current.bundle.file("model.onnx")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    run = asyncio.run(watched.watch().replay())
    assert (run.flips, run.largest_difference < 1e-5) == (0, True)
    assert "model.onnx has another SHA-256" in run.damage
    assert run.runtime_changed


def test_another_bundle_in_the_folder_is_no_damage_and_no_folder_is(
    watched: Watched, tmp_path: Path
) -> None:
    folder = watched.slot.current.bundle.path
    folder.rename(tmp_path / "aside")
    (folder.parent / "bundle").mkdir()
    with pytest.raises(OSError, match=r"golden\.jsonl"):
        asyncio.run(watched.watch().replay())
    (folder.parent / "bundle").rmdir()
    tiny.make_bundle(folder, seed=3)
    assert asyncio.run(watched.watch().replay()).damage == ""


def test_no_request_is_counted_and_nothing_reaches_the_drift_monitor(watched: Watched) -> None:
    asyncio.run(watched.watch().replay())
    assert watched.slot.current.feed.observer.status().observations == 0
    predictions = [
        sample.value
        for family in watched.registry.collect()
        for sample in family.samples
        if sample.name in ("edgeloop_predictions_total", "edgeloop_queue_wait_seconds_count")
    ]
    assert predictions
    assert set(predictions) == {0.0}


def test_it_comes_again_and_again_and_not_at_all_without_an_interval(watched: Watched) -> None:
    async def run() -> None:
        watch = watched.watch()
        task = asyncio.create_task(watch.run())
        await asyncio.sleep(0.2)
        assert watched.value("golden_runs_total") == 0.0
        watched.seconds = 0.01
        watch.wake()
        end = time.monotonic() + WAIT_SECONDS
        while (watched.value("golden_runs_total") or 0.0) < 2 and time.monotonic() < end:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert (watched.value("golden_runs_total") or 0.0) >= 2


def test_a_replay_that_fails_does_not_end_the_watch(watched: Watched) -> None:
    golden = watched.slot.current.bundle.file(GOLDEN)
    content = golden.read_bytes()
    golden.write_bytes(b"not a row\n")
    watched.seconds = 0.01

    async def run() -> None:
        task = asyncio.create_task(watched.watch().run())
        await asyncio.sleep(0.2)
        assert not task.done()
        golden.write_bytes(content)
        end = time.monotonic() + WAIT_SECONDS
        while not watched.value("golden_runs_total") and time.monotonic() < end:
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert watched.value("golden_runs_total")


@pytest.mark.parametrize("task", ["text-embedding", "token-classification"])
def test_models_of_other_tasks_are_asked_as_well(task: str, tmp_path: Path) -> None:
    watched = Watched(tiny.make_bundle(tmp_path / "bundle", task=task))
    run = asyncio.run(watched.watch().replay())
    assert run.rows == 12
    assert not run.runtime_changed
    watched.close()


def test_a_running_server_tells_a_file_that_was_damaged_from_its_traffic(tmp_path: Path) -> None:
    bundle = tiny.make_bundle(tmp_path / "bundle")
    with (
        serving(bundle=bundle.path, golden_interval_seconds=0.3) as server,
        httpx.Client(base_url=server.url, timeout=20) as http,
    ):
        wait_for(http, "edgeloop_golden_runs_total", 1.0)
        assert metric(http, "edgeloop_runtime_changed") == 0.0
        seen = http.get("/drift").json()
        assert seen["runtime"]["flips"] == 0
        assert seen["observations"] == 0
        bundle.file("model.onnx").write_bytes(b"damaged")
        wait_for(http, "edgeloop_runtime_changed", 1.0)
        assert "model.onnx" in http.get("/drift").json()["runtime"]["damage"]
        assert predict(http, "my card").status_code == 200
        server.stop()
    assert "event=golden_replayed" in server.log
    assert "event=runtime_changed" in server.log


def wait_for(http: httpx.Client, name: str, least: float) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while metric(http, name) < least:
        assert time.monotonic() < end, name
        time.sleep(0.05)

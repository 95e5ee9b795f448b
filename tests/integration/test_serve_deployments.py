"""Deployments and trials in this process: threads that die or must end, queues that are full."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from edgeloop.bundle import Bundle
from edgeloop.runtime import OnnxModel
from serve.autotune import shared
from serve.deployments import Deployments
from serve.jobs import Job, Scored
from serve.lifecycle_config import Canary, Shadow
from serve.metrics import ServeMetrics
from serve.slot import ActivationError, Activator, Active, Slot, verify_bundle
from serve.trial import QUEUE_TEXTS, Trial
from serve.trials import Trials
from tests import tiny
from tests.edge_server import WordObserver
from tests.unit.serve.test_judge import scored

WAIT_SECONDS = 10.0


class Setting:
    """A slot with its bundles a, b and c, and the metrics."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ServeMetrics(self.registry, "tiny")
        self.activator = Activator(WordObserver, lambda _: None, self.metrics, shared(1), 64)
        self.bundles = {
            name: tiny.make_bundle(folder / name, seed=seed) for seed, name in enumerate("abc")
        }
        self.slot = Slot(self.activator.activate(self.bundles["a"]), self.metrics)
        self.deployments = Deployments(self.slot, self.activator, self.metrics)
        self.trials = Trials(self.deployments, verify_bundle, may_promote=True)

    def swap(self, name: str, **options: bool) -> Awaitable[bool]:
        path = self.bundles[name].path
        return self.deployments.swap(path, "admin", lambda: verify_bundle(path), **options)

    def names(self) -> list[str]:
        """What is loaded, by name: current, previous, on trial."""
        return [active.bundle.path.name for active in self.slot.deployments()]

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny", **labels})


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    made = Setting(tmp_path)
    yield made
    for active in made.slot.deployments():
        active.close()
        active.join(WAIT_SECONDS)
    wait_until(lambda: engine_threads() == 0)


def engine_threads() -> int:
    return sum(thread.name.startswith("engine-") for thread in threading.enumerate())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


def kill_thread(active: Active, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its one inference thread die of the next text."""

    def die(*_: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(OnnxModel, "run", die)
        active.engine.submit(Job(["a"], True, time.monotonic() + WAIT_SECONDS))
        wait_until(lambda: not active.engine.healthy())


def test_only_the_last_of_those_before_stays_loaded(setting: Setting) -> None:
    async def swaps() -> None:
        assert await setting.swap("b")
        assert await setting.swap("c")

    asyncio.run(swaps())
    assert setting.names() == ["c", "b"]
    wait_until(lambda: engine_threads() == 2)


def test_a_request_under_way_keeps_a_retired_bundle_alive(setting: Setting) -> None:
    first = setting.slot.current

    async def swaps() -> list[Scored]:
        with first:
            await setting.swap("b")
            await setting.swap("c")
            job = Job(["a leak"], True, time.monotonic() + WAIT_SECONDS)
            first.engine.submit(job)
            return await asyncio.wrap_future(job.future)

    (answer,) = asyncio.run(swaps())
    assert answer.text == "a leak"
    wait_until(lambda: engine_threads() == 2)


def test_a_bundle_from_before_whose_thread_died_is_no_way_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def there_and_back() -> None:
        await setting.swap("b")
        assert setting.slot.previous is not None
        kill_thread(setting.slot.previous, monkeypatch)
        with pytest.raises(ActivationError) as caught:
            await setting.deployments.roll_back("asked", "admin")
        assert caught.value.reason == "previous"
        assert await setting.swap("a", take_warm=True)  # loaded anew then
        assert setting.slot.current.engine.healthy()

    asyncio.run(there_and_back())
    assert setting.names() == ["a", "b"]


def test_whatever_goes_wrong_is_a_step_that_failed(setting: Setting) -> None:
    def explode() -> Bundle:
        raise MemoryError("no room")

    async def swaps() -> None:
        with pytest.raises(ActivationError, match="no room") as caught:
            await setting.deployments.swap(Path("x"), "admin", explode)
        assert caught.value.reason == "load"

    asyncio.run(swaps())
    assert setting.names() == ["a"]
    assert setting.value("swaps_total", reason="load") == 1


def test_who_cannot_be_told_of_a_change_does_not_stop_it(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise OSError("no disk")

    setting.deployments.on_change.insert(0, fail)
    asyncio.run(swapped(setting))
    assert setting.names() == ["b", "a"]
    assert "event=on_change_failed" in caplog.text


async def swapped(setting: Setting) -> None:
    await setting.swap("b")


def test_a_canary_whose_thread_dies_is_rolled_back(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = Canary(bundle=setting.bundles["b"].path, share=0.5)

    async def trial() -> None:
        started = await setting.trials.start("canary", rules, "admin")
        kill_thread(started.active, monkeypatch)
        assert not any(started.has_client(bytes([i])) for i in range(50))
        while setting.slot.canary is not None:
            await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(trial(), WAIT_SECONDS))
    assert setting.names() == ["a"]
    assert setting.value("rollbacks_total", reason="unhealthy") == 1
    assert setting.trials.refused == [setting.bundles["b"].digest]


def test_a_swap_of_the_stable_bundle_ends_what_is_on_trial(setting: Setting) -> None:
    async def trial() -> None:
        for variant, rules in (
            ("canary", Canary(bundle=setting.bundles["b"].path)),
            ("shadow", Shadow(bundle=setting.bundles["b"].path)),
        ):
            await setting.trials.start(variant, rules, "admin")
        assert setting.names() == ["a", "b", "b"]
        await setting.swap("c")

    asyncio.run(trial())
    assert setting.names() == ["c", "a"]
    wait_until(lambda: engine_threads() == 2)


def test_more_than_a_trial_can_compare_is_dropped_and_counted(setting: Setting) -> None:
    rules = Shadow(bundle=setting.bundles["b"].path, share=1.0)
    job = Job(["a"], True, 0.0)

    async def flood() -> Trial:
        trial = await setting.trials.start("shadow", rules, "admin")
        for _ in range(QUEUE_TEXTS + 7):  # no await: nothing is compared meanwhile
            setting.slot.answered(setting.slot.current, job, [scored()])
        assert trial.dropped == 7
        await setting.trials.end("shadow", "ended", "", "admin")
        return trial

    asyncio.run(flood())
    assert setting.value("trial_dropped_total", variant="shadow") == 7


def test_clients_are_shared_out_by_their_keys(setting: Setting) -> None:
    bundle = setting.bundles["b"]
    keys = [str(number).encode() for number in range(2000)]

    async def chosen(share: float) -> list[bool]:
        rules = Canary(bundle=bundle.path, share=share)
        trial = await setting.trials.start("canary", rules, "admin")
        found = [trial.has_client(key) for key in keys]
        assert found == [trial.has_client(key) for key in keys]
        await setting.trials.end("canary", "ended", "", "admin")
        return found

    few, more = asyncio.run(chosen(0.1)), asyncio.run(chosen(0.4))
    assert np.mean(few) == pytest.approx(0.1, abs=0.03)
    assert np.mean(more) == pytest.approx(0.4, abs=0.05)
    # Who is in at a small share stays in when it grows.
    assert all(b for a, b in zip(few, more, strict=True) if a)


def test_a_refused_trial_leaves_the_running_one(setting: Setting) -> None:
    async def trials() -> None:
        await setting.trials.start("canary", Canary(bundle=setting.bundles["b"].path), "admin")
        for path in (setting.bundles["a"].path, Path("/nowhere")):
            with pytest.raises(ActivationError):
                await setting.trials.start("canary", Canary(bundle=path), "admin")

    asyncio.run(trials())
    assert setting.names() == ["a", "b"]

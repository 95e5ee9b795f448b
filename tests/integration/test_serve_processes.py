"""Inference processes that die, come back, load beside their answers, and end with their server."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.kinds import CASCADE
from edgeloop.models import open_model
from serve.jobs import Unhealthy
from serve.metrics import ServeMetrics
from serve.process_engine import ProcessEngine
from tests import stages, tiny
from tests.edge_server import Server, serving
from tests.integration.test_serve_admin import ADMIN, post, swap
from tests.integration.test_serve_http import metric
from tests.integration.test_serve_swap import Load, served_digest
from tests.pools import (
    MAX_TOKENS,
    READER,
    WAIT_SECONDS,
    engine_in,
    job,
    metrics,
    pool_of,
    signal_all,
    submitted,
)

TEXTS = [text for text, _ in tiny.sentences(40)]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.01)


def value(told: ServeMetrics, name: str) -> float | None:
    return told.registry.get_sample_value(name, {"model": "tiny"})


def test_the_texts_of_a_process_that_dies_are_answered_by_another(tiny_bundle: Bundle) -> None:
    told = metrics()
    with pool_of(2, told) as pool, engine_in(pool, tiny_bundle.path) as engine:
        was = pool.pids()
        signal_all(pool, signal.SIGSTOP)
        jobs = [submitted(engine, text) for text in TEXTS[:12]]
        os.kill(was[0], signal.SIGKILL)
        os.kill(was[1], signal.SIGCONT)
        for made in jobs:
            assert made.future.result(WAIT_SECONDS)
        assert engine.healthy()
        wait_until(lambda: len(pool.pids()) == 2)
        assert was[0] not in pool.pids()
        assert submitted(engine, *TEXTS).future.result(WAIT_SECONDS)
        assert value(told, "edgeloop_worker_processes") == 2
        assert value(told, "edgeloop_worker_restarts_total") == 1


def test_without_any_process_nobody_waits_and_they_come_back_by_themselves(
    tiny_bundle: Bundle,
) -> None:
    with pool_of(1) as pool, engine_in(pool, tiny_bundle.path) as engine:
        signal_all(pool, signal.SIGSTOP)
        jobs = [submitted(engine, text) for text in TEXTS[:6]]
        signal_all(pool, signal.SIGKILL)
        for made in jobs:
            with pytest.raises(EngineError, match="every inference process has ended"):
                made.future.result(WAIT_SECONDS)
        assert not engine.healthy()
        with pytest.raises(Unhealthy):
            engine.submit(job("a"))
        wait_until(engine.healthy)
        assert submitted(engine, "a").future.result(WAIT_SECONDS)


def test_the_process_that_makes_them_is_replaced_too(tiny_bundle: Bundle) -> None:
    with pool_of(1) as pool, engine_in(pool, tiny_bundle.path) as engine:
        (pid,) = pool.pids()
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        wait_until(lambda: pool.pids() not in ([], [pid]))
        assert submitted(engine, "a").future.result(WAIT_SECONDS)


def test_a_text_that_ends_two_processes_fails(tiny_bundle: Bundle) -> None:
    with pool_of(3) as pool, engine_in(pool, tiny_bundle.path) as engine:
        signal_all(pool, signal.SIGSTOP)
        first = submitted(engine, "a")
        for _ in range(2):
            pid = pool.pids()[0]  # the first that has room
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in pool.pids())  # type: ignore[misc]
        with pytest.raises(EngineError, match="ended two inference processes"):
            first.future.result(WAIT_SECONDS)
        assert engine.healthy()


def test_a_model_that_ends_the_process_that_loads_it_is_refused(tiny_bundle: Bundle) -> None:
    with pool_of(1) as pool, engine_in(pool, tiny_bundle.path) as engine:
        (pid,) = pool.pids()
        os.kill(pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="ends the process"):
            pool.open(tiny_bundle.path, MAX_TOKENS)
        wait_until(engine.healthy)
        assert submitted(engine, "a").future.result(WAIT_SECONDS)


def test_a_long_text_reaches_a_process_that_does_not_read(tiny_bundle: Bundle) -> None:
    with pool_of(1) as pool, engine_in(pool, tiny_bundle.path) as engine:
        signal_all(pool, signal.SIGSTOP)
        longer = "word " * 200_000  # more than a socket takes
        jobs = [submitted(engine, f"{longer}{i}") for i in range(3)]
        signal_all(pool, signal.SIGCONT)
        for made in jobs:
            assert made.future.result(WAIT_SECONDS)[0].tokens == MAX_TOKENS


def test_engines_that_share_the_processes_leave_one_by_one(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    another = tiny.make_bundle(tmp_path / "another", seed=1)
    with pool_of(2) as pool, engine_in(pool, tiny_bundle.path) as engine:
        other = ProcessEngine(pool, another.path, MAX_TOKENS, READER, 64)
        jobs = [(submitted(engine, text), submitted(other, text)) for text in TEXTS]
        other.close()
        other.join(WAIT_SECONDS)
        models = [open_model(bundle.path, MAX_TOKENS) for bundle in (tiny_bundle, another)]
        for text, *both in zip(TEXTS, *zip(*jobs, strict=True), strict=True):
            for model, made in zip(models, both, strict=True):
                answer = made.future.result(WAIT_SECONDS)[0]
                assert np.array_equal(answer.output.logits, model.answer(text).output.logits)
        assert submitted(engine, "a").future.result(WAIT_SECONDS)


def test_a_cascade_s_first_stage_answers_at_once_and_a_process_the_rest(tmp_path: Path) -> None:
    made = stages.make_cascade(tmp_path / "cascade")
    texts = list(dict.fromkeys(text for text, _ in tiny.sentences(60, seed=8)))
    first = open_model(tmp_path / "small", MAX_TOKENS)
    sure = [READER.read(first.answer(text).output)[0].score for text in texts]
    half = {"first_temperature": 1.0, "threshold": float(np.median(sure))}
    made.model_copy(update=half).write(tmp_path / "cascade" / CASCADE)
    model = open_model(tmp_path / "cascade", MAX_TOKENS)
    with pool_of(1) as pool, engine_in(pool, tmp_path / "cascade") as engine:
        alone = [submitted(engine, text) for text in texts]
        assert any(each.future.done() for each in alone)
        answers = [each.future.result(WAIT_SECONDS)[0] for each in alone]
        together = submitted(engine, *texts).future.result(WAIT_SECONDS)
    assert {a.stage for a in answers} == {"first", "second"}
    for text, *both in zip(texts, answers, together, strict=True):
        expected = model.answer(text)
        for answer in both:
            assert (answer.stage, answer.tokens) == (expected.stage, expected.tokens)
            assert np.array_equal(answer.output.logits, expected.output.logits)
            assert np.array_equal(answer.output.embedding, expected.output.embedding)


# the server


def processes_of(server: Server) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def test_swaps_and_rollbacks_lose_no_request(first: Bundle, second: Bundle) -> None:
    with serving(bundle=first.path, admin=ADMIN, processes=True, workers=2) as server:
        with Load(server) as load:
            for bundle in (second, first):
                load.wait_for_more(len(load.answers) + 50)
                assert swap(server, bundle).status_code == 200
            load.wait_for_more(len(load.answers) + 50)
            assert post(server, "/admin/rollback", {}).status_code == 200
            load.wait_for_more(len(load.answers) + 50)
        assert served_digest(server) == second.digest
        assert (load.failures, {a.status_code for a in load.answers}) == ([], {200})
        labels = {b.digest: sorted(b.manifest.labels) for b in (first, second)}
        for answer in load.answers:
            digest = answer.headers["x-edgeloop-bundle"]
            assert sorted(row["label"] for row in answer.json()) == labels[digest]
        with httpx.Client(base_url=server.url) as http:
            assert metric(http, "edgeloop_worker_processes") == 2
        (maker, *workers) = processes_of(server)
        assert len(workers) == 2
        with Load(server) as load:
            workers[0].kill()
            load.wait_for_more(100)
        assert {a.status_code for a in load.answers} == {200}
        assert server.stop() == 0
    assert not any(each.is_running() for each in (maker, *workers))
    assert {"onnxruntime", "tokenizers"}.isdisjoint(server.modules)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_its_server(tiny_bundle: Bundle, number: signal.Signals) -> None:
    with serving(bundle=tiny_bundle.path, processes=True, workers=2) as server:
        alive = processes_of(server)
        assert len(alive) == 3
        server.stop(number)
        gone, left = psutil.wait_procs(alive, timeout=WAIT_SECONDS)
        assert (len(gone), left) == (3, [])

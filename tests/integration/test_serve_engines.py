"""What every engine keeps to, whoever runs its model: a thread, or a process."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from edgeloop.bundle import Bundle
from edgeloop.errors import EngineError
from edgeloop.models import open_model
from serve.jobs import Expired, QueueFull, TooLong, Unhealthy
from serve.worker_pool import WorkerPool
from tests import tiny
from tests.pools import (
    MAX_TOKENS,
    WAIT_SECONDS,
    Held,
    Processes,
    engine_in,
    held_threads,
    job,
    pool_of,
    submitted,
)

TEXTS = [text for text, _ in tiny.sentences(40)]
Hold = Callable[..., AbstractContextManager[Held]]


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with pool_of(1) as made:
        yield made


@pytest.fixture(params=["threads", "processes"])
def held(request: pytest.FixtureRequest, pool: WorkerPool, tiny_bundle: Bundle) -> Hold:
    @contextmanager
    def processes(queue_texts: int, cache_texts: int = 0) -> Iterator[Held]:
        with engine_in(pool, tiny_bundle.path, queue_texts, cache_texts) as engine:
            yield Processes(engine, pool)

    @contextmanager
    def threads(queue_texts: int, cache_texts: int = 0) -> Iterator[Held]:
        with held_threads(tiny_bundle.path, queue_texts, cache_texts) as made:
            yield made

    return processes if request.param == "processes" else threads


def fill(held: Held) -> list[str]:
    """Hold it still with as many texts as it takes."""
    held.hold()
    texts = [f"busy {i}" for i in range(held.takes)]
    for text in texts:
        submitted(held.engine, text)
    while held.engine.queued_texts():
        pass
    return texts


def test_numbers_are_the_model_s_in_the_order_of_the_texts(held: Hold, tiny_bundle: Bundle) -> None:
    model = open_model(tiny_bundle.path, MAX_TOKENS)
    with held(64) as made:
        answers = submitted(made.engine, *TEXTS).future.result(WAIT_SECONDS)
    assert [answer.text for answer in answers] == TEXTS
    for answer in answers:
        alone = model.answer(answer.text)
        assert np.array_equal(answer.output.logits, alone.output.logits)
        assert np.array_equal(answer.output.embedding, alone.output.embedding)
        assert (answer.tokens, answer.stage) == (alone.tokens, alone.stage)
        assert answer.inference_seconds > 0.0 <= answer.queue_seconds


def test_a_request_is_queued_whole_or_refused_whole(held: Hold) -> None:
    with held(3) as made:
        fill(made)
        queued = submitted(made.engine, "a", "b")
        with pytest.raises(QueueFull):
            made.engine.submit(job("c", "d"))
        made.engine.set_queue_texts(4)
        more = submitted(made.engine, "c", "d")
        assert made.engine.queued_texts() == 4
        made.release()
        for each in (queued, more):
            assert len(each.future.result(WAIT_SECONDS)) == 2


def test_what_is_queued_expires_and_what_was_taken_does_not(held: Hold) -> None:
    with held(8) as made:
        texts = fill(made)
        taken = submitted(made.engine, texts[0])
        waiting = submitted(made.engine, "waits")
        made.engine.expire(waiting)
        made.engine.expire(taken)
        with pytest.raises(Expired):
            waiting.future.result(0)
        made.release()
        assert taken.future.result(WAIT_SECONDS)


def test_past_its_deadline_a_text_is_not_answered(held: Hold) -> None:
    with held(8) as made:
        fill(made)
        late = job("late", seconds=0.0)
        made.engine.submit(late)
        made.release()
        with pytest.raises(Expired):
            late.future.result(WAIT_SECONDS)


def test_a_text_is_answered_once_for_all_who_ask(held: Hold) -> None:
    with held(1) as made:
        texts = fill(made)
        again = submitted(made.engine, texts[0])
        both = [submitted(made.engine, "a"), submitted(made.engine, "a", "a")]
        assert made.engine.queued_texts() == 1
        made.release()
        for each in (again, *both):
            assert {a.text for a in each.future.result(WAIT_SECONDS)} == set(each.texts)


def test_a_cached_answer_is_there_at_once(held: Hold) -> None:
    with held(8, cache_texts=2) as made:
        first = submitted(made.engine, "a").future.result(WAIT_SECONDS)
        fill(made)
        again = submitted(made.engine, "a").future.result(0)
        assert np.array_equal(first[0].probabilities, again[0].probabilities)


def test_a_long_text_is_cut_only_on_request(held: Hold) -> None:
    long = "word " * (2 * MAX_TOKENS)
    with held(8) as made:
        refused = submitted(made.engine, "short", long, truncate=False)
        with pytest.raises(TooLong) as caught:
            refused.future.result(WAIT_SECONDS)
        assert caught.value.index == 1
        cut = submitted(made.engine, long).future.result(WAIT_SECONDS)
        assert cut[0].tokens == MAX_TOKENS


def test_what_is_no_unicode_fails_alone(held: Hold) -> None:
    with held(8) as made:
        broken = submitted(made.engine, "half a pair: \ud800")
        assert broken.future.exception(WAIT_SECONDS) is not None
        assert submitted(made.engine, "whole").future.result(WAIT_SECONDS)
        assert made.engine.healthy()


def test_close_lets_what_is_queued_finish(held: Hold) -> None:
    with held(8) as made:
        fill(made)
        queued = submitted(made.engine, "a", "b")
        made.engine.close()
        with pytest.raises(Unhealthy):
            made.engine.submit(job("too late"))
        made.release()
        assert len(queued.future.result(WAIT_SECONDS)) == 2
        made.engine.join(WAIT_SECONDS)


def test_a_model_that_does_not_load_is_refused_and_the_others_answer(
    pool: WorkerPool, tiny_bundle: Bundle
) -> None:
    with engine_in(pool, tiny_bundle.path) as engine:
        with pytest.raises(EngineError, match="no whole model lies here"):
            pool.open(tiny_bundle.path.parent / "nothing", MAX_TOKENS)
        assert submitted(engine, "a").future.result(WAIT_SECONDS)

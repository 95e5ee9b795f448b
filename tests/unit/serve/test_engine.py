"""Queue, deadlines, failures and the end of the inference threads, with a model by hand."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.kinds import CASCADE
from edgeloop.models import open_model
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, RowOutput
from edgeloop.tasks import Answer
from serve.engine import ThreadEngine
from serve.jobs import Expired, Job, QueueFull, Reader, TooLong, Unhealthy
from serve.queueing import QUICK_TEXTS
from tests import stages, tiny

WAIT_SECONDS = 10.0
READER = Reader("text-classification", ("even", "odd"))


class GateModel:
    """Scores a text by its length; waits at the text "wait", and breaks at some others."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.order: list[str] = []

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        assert isinstance(text, str)
        self.order.append(text)
        if len(text) > 20 and not truncate:
            raise TextTooLong(text)
        if text == "wait":
            self.entered.set()
            assert self.gate.wait(WAIT_SECONDS)
        if text == "break":
            raise EngineError("the model broke")
        if text == "die":
            raise SystemExit
        logits = np.array([float(len(text)), np.nan if text == "nan" else 0.0], np.float32)
        return Answered(RowOutput(logits, np.ones(4, np.float32)), len(text), len(text) > 20)

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        return [self.answer(text).output for text in texts]


@contextmanager
def running(
    model: GateModel, workers: int = 1, queue_texts: int = 4, cache_texts: int = 0
) -> Iterator[ThreadEngine]:
    engine = ThreadEngine([model] * workers, READER, queue_texts, cache_texts)
    try:
        yield engine
    finally:
        model.gate.set()
        engine.close()
        engine.join(WAIT_SECONDS)


def job(*texts: str, truncate: bool = False, seconds: float = WAIT_SECONDS) -> Job:
    return Job(texts, truncate, time.monotonic() + seconds)


def submitted(engine: ThreadEngine, *texts: str, truncate: bool = False) -> Job:
    made = job(*texts, truncate=truncate)
    engine.submit(made)
    return made


def busy(engine: ThreadEngine, model: GateModel) -> Job:
    """Occupy the only thread."""
    made = submitted(engine, "wait")
    assert model.entered.wait(WAIT_SECONDS)
    return made


def test_answers_come_in_the_order_of_the_texts() -> None:
    with running(GateModel(), workers=3, queue_texts=32) as engine:
        texts = ["x" * (i % 19 + 1) for i in range(32)]
        answers = submitted(engine, *texts).future.result(WAIT_SECONDS)
    assert [a.text for a in answers] == texts
    assert [a.tokens for a in answers] == [len(t) for t in texts]
    assert all(a.probabilities.sum() == pytest.approx(1.0) for a in answers)


def test_requests_are_served_first_come_first_served() -> None:
    model = GateModel()
    with running(model) as engine:
        first = busy(engine, model)
        later = [submitted(engine, f"text {i}") for i in range(3)]
        model.gate.set()
        for made in (first, *later):
            made.future.result(WAIT_SECONDS)
    assert model.order == ["wait", "text 0", "text 1", "text 2"]


def test_a_batch_fits_in_the_queue_or_is_refused_whole() -> None:
    model = GateModel()
    with running(model, queue_texts=4) as engine:
        busy(engine, model)
        submitted(engine, "a", "b")
        with pytest.raises(QueueFull):
            engine.submit(job("c", "d", "e"))
        submitted(engine, "f", "g")
        with pytest.raises(QueueFull):
            engine.submit(job("h"))


def test_a_queued_request_expires_and_makes_room() -> None:
    model = GateModel()
    with running(model, queue_texts=2) as engine:
        busy(engine, model)
        queued = submitted(engine, "a", "b")
        engine.expire(queued)
        with pytest.raises(Expired):
            queued.future.result(0)
        assert submitted(engine, "c", "d").waiting() == 2


def test_a_request_that_is_being_answered_does_not_expire() -> None:
    model = GateModel()
    with running(model) as engine:
        taken = busy(engine, model)
        engine.expire(taken)
        assert not taken.future.done()
        model.gate.set()
        assert taken.future.result(WAIT_SECONDS)[0].text == "wait"


def test_a_request_past_its_deadline_is_never_run() -> None:
    model = GateModel()
    with running(model) as engine:
        busy(engine, model)
        late = job("late", seconds=0.0)
        engine.submit(late)
        model.gate.set()
        with pytest.raises(Expired):
            late.future.result(WAIT_SECONDS)
    assert "late" not in model.order


def test_a_long_text_is_cut_only_on_request() -> None:
    with running(GateModel()) as engine:
        refused = submitted(engine, "short", "x" * 21)
        with pytest.raises(TooLong) as caught:
            refused.future.result(WAIT_SECONDS)
        assert caught.value.index == 1
        assert submitted(engine, "x" * 21, truncate=True).future.result(WAIT_SECONDS)


@pytest.mark.parametrize(("text", "says"), [("break", "broke"), ("nan", "not finite")])
def test_a_failure_costs_one_request_only(text: str, says: str) -> None:
    with running(GateModel()) as engine:
        with pytest.raises(EngineError, match=says):
            submitted(engine, text, "a", "b").future.result(WAIT_SECONDS)
        assert submitted(engine, "a").future.result(WAIT_SECONDS)
        assert engine.healthy()


def test_a_dead_thread_is_unhealthy_and_leaves_nobody_waiting() -> None:
    model = GateModel()
    with running(model) as engine:
        busy(engine, model)
        dying, behind = submitted(engine, "die"), submitted(engine, "behind")
        model.gate.set()
        for made in (dying, behind):
            with pytest.raises(EngineError):
                made.future.result(WAIT_SECONDS)
        assert not engine.healthy()
        with pytest.raises(Unhealthy):
            engine.submit(job("after"))


def test_close_lets_queued_requests_finish() -> None:
    model = GateModel()
    with running(model) as engine:
        jobs = [busy(engine, model), submitted(engine, "a"), submitted(engine, "b", "c")]
        engine.close()
        with pytest.raises(Unhealthy):
            engine.submit(job("too late"))
        model.gate.set()
        assert [len(made.future.result(WAIT_SECONDS)) for made in jobs] == [1, 1, 2]


def test_retry_after_grows_with_the_queue() -> None:
    model = GateModel()
    with running(model, queue_texts=3) as engine:
        submitted(engine, "warm").future.result(WAIT_SECONDS)
        busy(engine, model)
        submitted(engine, "a")
        with pytest.raises(QueueFull) as short:
            engine.submit(job("b", "c", "d"))
        submitted(engine, "b", "c")
        with pytest.raises(QueueFull) as long:
            engine.submit(job("d"))
    assert long.value.retry_after_seconds > short.value.retry_after_seconds > 0.0


# -- what is not computed twice ----------------------------------------------------------------


def test_a_text_that_is_waiting_or_being_answered_is_answered_once_for_all() -> None:
    model = GateModel()
    with running(model, queue_texts=2) as engine:
        first = busy(engine, model)
        again = submitted(engine, "wait")  # being answered
        waiting = [submitted(engine, "a"), submitted(engine, "a", "a"), submitted(engine, "b")]
        with pytest.raises(QueueFull):  # "a" and "b" are what the queue holds
            engine.submit(job("c"))
        model.gate.set()
        for made in (first, again, *waiting):
            answers = made.future.result(WAIT_SECONDS)
            assert [a.text for a in answers] == list(made.texts)
    assert model.order == ["wait", "a", "b"]


def test_a_text_that_may_be_cut_is_another_one_than_one_that_may_not() -> None:
    model = GateModel()
    with running(model) as engine:
        busy(engine, model)
        cut, refused = submitted(engine, "x" * 21, truncate=True), submitted(engine, "x" * 21)
        model.gate.set()
        assert cut.future.result(WAIT_SECONDS)
        with pytest.raises(TooLong):
            refused.future.result(WAIT_SECONDS)


def test_one_of_two_that_share_a_text_expires_and_the_other_is_answered() -> None:
    model = GateModel()
    with running(model) as engine:
        busy(engine, model)
        early, late = submitted(engine, "a", "b"), submitted(engine, "a")
        engine.expire(early)
        with pytest.raises(Expired):
            early.future.result(0)
        model.gate.set()
        assert late.future.result(WAIT_SECONDS)[0].text == "a"
    assert model.order == ["wait", "a"]


def test_a_failure_is_told_to_all_who_share_the_text() -> None:
    model = GateModel()
    with running(model) as engine:
        busy(engine, model)
        sharing = [submitted(engine, "a", "break"), submitted(engine, "break")]
        model.gate.set()
        for made in sharing:
            with pytest.raises(EngineError, match="broke"):
                made.future.result(WAIT_SECONDS)
        assert submitted(engine, "break").future.exception(WAIT_SECONDS)  # tried again


def test_the_cache_keeps_the_newest_answers() -> None:
    model = GateModel()
    with running(model, cache_texts=2) as engine:
        for text in ("a", "bb", "a", "ccc", "a", "bb"):
            assert submitted(engine, text).future.result(WAIT_SECONDS)[0].tokens == len(text)
    assert model.order == ["a", "bb", "ccc", "bb"]


def test_a_request_of_known_texts_alone_is_answered_before_submit_returns() -> None:
    model = GateModel()
    with running(model, queue_texts=1, cache_texts=4) as engine:
        submitted(engine, "a").future.result(WAIT_SECONDS)
        busy(engine, model)
        submitted(engine, "b")
        assert submitted(engine, "a", "a").future.result(0)[1].queue_seconds == 0.0  # queue or not


def test_a_request_that_would_wait_beyond_its_deadline_is_refused_at_once() -> None:
    model = GateModel()
    with running(model, queue_texts=100) as engine:
        slow = busy(engine, model)
        time.sleep(0.05)
        model.gate.set()
        slow.future.result(WAIT_SECONDS)
        model.gate.clear()
        model.entered.clear()
        busy(engine, model)
        submitted(engine, *(f"text {i}" for i in range(50)))
        with pytest.raises(QueueFull) as refused:
            engine.submit(job("soon", seconds=0.01))
        assert refused.value.retry_after_seconds > 0.01
        assert submitted(engine, "later").waiting() == 1


class SlowReader(Reader):
    """Takes its time after the model has answered: what a thread does, or waits for, besides."""

    def read(self, output: RowOutput) -> tuple[Answer, NDArray[np.float64], bool]:
        time.sleep(0.005)
        return super().read(output)


def test_a_queue_that_is_seen_to_move_slowly_is_believed_whatever_the_model_takes() -> None:
    reader = SlowReader("text-classification", ("even", "odd"))
    engine = ThreadEngine([GateModel()], reader, queue_texts=200)
    try:
        submitted(engine, *(f"text {i}" for i in range(40))).future.result(WAIT_SECONDS)
        queued = submitted(engine, *(f"more {i}" for i in range(100)))
        with pytest.raises(QueueFull) as refused:
            engine.submit(job("late", seconds=0.1))
        assert refused.value.retry_after_seconds > 0.1
        assert queued.future.result(WAIT_SECONDS)
    finally:
        engine.close()
        engine.join(WAIT_SECONDS)


# -- what is answered at once ------------------------------------------------------------------


def test_a_linear_model_answers_before_submit_returns(tmp_path: Path) -> None:
    stages.make_linear(tmp_path / "linear")
    model = open_model(tmp_path / "linear", stages.MAX_TOKENS)
    reader = Reader(stages.TASK, tiny.LABELS)
    engine = ThreadEngine([model], reader, queue_texts=32)
    try:
        texts = [text for text, _ in tiny.sentences(QUICK_TEXTS)]
        made = submitted(engine, *texts)
        outputs = [answer.output.logits for answer in made.future.result(0)]
        many = submitted(engine, *texts, "one more")  # too many to hold up the event loop
        again = [answer.output.logits for answer in many.future.result(WAIT_SECONDS)]
        assert np.array_equal(outputs, again[:-1])
        with pytest.raises(TooLong):
            submitted(engine, "word " * 100).future.result(0)
    finally:
        engine.close()
        engine.join(WAIT_SECONDS)


def test_a_cascade_queues_only_what_its_first_stage_is_not_sure_of(tmp_path: Path) -> None:
    made = stages.make_cascade(tmp_path / "cascade")
    texts = list(dict.fromkeys(text for text, _ in tiny.sentences(200, seed=8)))
    reader = Reader(stages.TASK, tiny.LABELS)
    first = open_model(tmp_path / "small", stages.MAX_TOKENS)
    sure = [reader.read(first.answer(text).output)[0].score for text in texts]
    half = {"first_temperature": 1.0, "threshold": float(np.median(sure))}
    made.model_copy(update=half).write(tmp_path / "cascade" / CASCADE)
    model = open_model(tmp_path / "cascade", stages.MAX_TOKENS)
    engine = ThreadEngine([model], reader, queue_texts=512)
    try:
        jobs = [submitted(engine, text) for text in texts]
        at_once = [made.waiting() == 0 and made.future.done() for made in jobs]
        answers = [made.future.result(WAIT_SECONDS)[0] for made in jobs]
    finally:
        engine.close()
        engine.join(WAIT_SECONDS)
    assert {a.stage for a in answers} == {"first", "second"}
    for answer, done, text in zip(answers, at_once, texts, strict=True):
        expected = model.answer(text)
        assert answer.stage == expected.stage
        assert done or answer.stage == "second"
        assert np.array_equal(answer.output.logits, expected.output.logits)
        assert np.array_equal(answer.output.embedding, expected.output.embedding)


# -- what the numbers mean -------------------------------------------------------------------------


def output(logits: Sequence[object], embedding: Sequence[float] = (0.6, 0.8)) -> RowOutput:
    values = np.array(logits, dtype=np.float32)
    return RowOutput(values, np.array(embedding, np.float32), ((0, 1),) * len(values))


def test_an_answer_below_the_threshold_is_out_of_scope_and_one_at_it_is_not() -> None:
    answer, probabilities, _ = READER.read(output([2.0, 0.0]))
    assert answer.score == probabilities.max()
    for below, out_of_scope in ((answer.score, False), (answer.score + 1e-9, True), (None, False)):
        reader = Reader("text-classification", ("even", "odd"), below)
        assert reader.read(output([2.0, 0.0]))[2] is out_of_scope


def test_a_model_of_another_task_or_other_labels_is_an_error() -> None:
    with pytest.raises(EngineError, match="3 numbers, the manifest's 2 labels need 2"):
        READER.read(output([1.0, 2.0, 3.0]))
    with pytest.raises(EngineError, match="2 numbers, the manifest's 0 labels need 0"):
        Reader("text-embedding", ()).read(output([1.0, 2.0]))
    with pytest.raises(EngineError, match="4 numbers, the manifest's 2 labels need 5"):
        Reader("token-classification", ("a", "b")).read(output([[0.0] * 4]))


def test_only_the_numbers_that_are_the_answer_must_be_finite() -> None:
    assert READER.read(output([1.0, 2.0], [np.nan, 1.0]))[0].labels == ("odd",)
    with pytest.raises(EngineError, match="not finite"):
        Reader("text-embedding", ()).read(output([], [np.nan, 1.0]))

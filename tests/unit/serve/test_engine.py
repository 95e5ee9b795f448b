"""Queue, deadlines, failures and the end of the inference threads, with a model by hand."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from edgeloop.errors import EngineError, TextTooLong
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, RowOutput
from serve.engine import Expired, Job, QueueFull, Reader, ThreadEngine, TooLong, Unhealthy

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
def running(model: GateModel, workers: int = 1, queue_texts: int = 4) -> Iterator[ThreadEngine]:
    engine = ThreadEngine(model, READER, workers, queue_texts)
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

"""The verdict of one trial, answer by answer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeloop.runtime import RowOutput
from edgeloop.tasks import Answer
from serve.jobs import Scored
from serve.judge import FINE, WORSE, Judge, alike
from serve.lifecycle_config import TrialSection

STABLE_SECONDS = 0.01


def rules(**changes: Any) -> TrialSection:
    values: dict[str, Any] = {"bundle": Path("b"), "share": 0.1, "least_answers": 50}
    return TrialSection(**{**values, **changes})


def scored(label: str = "a", seconds: float = STABLE_SECONDS) -> Scored:
    return Scored(
        text="text",
        tokens=3,
        output=RowOutput(np.zeros(2, np.float32), np.zeros(4, np.float32)),
        answer=Answer(labels=(label,), scores=(1.0,), score=1.0),
        probabilities=np.array([0.5, 0.5]),
        abstained=False,
        queue_seconds=0.0,
        inference_seconds=seconds,
    )


def vector(*values: float) -> Scored:
    output = RowOutput(np.zeros(0, np.float32), np.array(values, np.float32))
    return Scored("t", 1, output, Answer(score=1.0), np.ones(1), False, 0.0, 0.01)


def judged(judge: Judge, trial: Scored | None, answers: int) -> str | None:
    """The first verdict within so many answers of a varied stable bundle."""
    rng = np.random.default_rng(0)
    for _ in range(answers):
        seconds = STABLE_SECONDS * float(rng.uniform(0.8, 1.2))
        judge.take(scored(seconds=seconds), trial)
        if judge.verdict() is not None:
            return judge.verdict()
    return None


def test_one_that_answers_alike_and_as_fast_is_fine() -> None:
    judge = Judge(rules())
    assert judged(judge, scored(), 1000) == FINE
    assert judge.compared >= 50


def test_nothing_passes_before_the_least_number_of_answers() -> None:
    judge = Judge(rules(least_answers=900))
    assert judged(judge, scored(), 899) is None
    assert judge.standing().fine > 20.0
    assert judged(judge, scored(), 1) == FINE


@pytest.mark.parametrize(
    ("trial", "question"),
    [
        (None, "errors"),
        (scored(seconds=10 * STABLE_SECONDS), "latency"),
        (scored(label="b"), "agreement"),
    ],
)
def test_a_worse_one_is_found_and_the_reason_named(trial: Scored | None, question: str) -> None:
    judge = Judge(rules())
    assert judged(judge, trial, 200) == WORSE
    assert judge.worst_question() == question


def test_one_that_is_slower_within_the_ratio_is_fine() -> None:
    assert judged(Judge(rules(latency_ratio=3.0)), scored(seconds=2 * STABLE_SECONDS), 1000) == FINE


def test_texts_that_both_fail_at_are_not_held_against_it() -> None:
    judge = Judge(rules())
    for _ in range(1000):
        judge.take(None, None)
    assert judge.verdict() is None
    assert judge.standing().questions[WORSE]["errors"] < 1.0


def test_without_a_floor_other_answers_are_allowed() -> None:
    assert judged(Judge(rules(agreement=None)), scored(label="b"), 1000) == FINE


def test_vectors_agree_by_their_direction() -> None:
    assert alike(vector(1.0, 0.0), vector(2.0, 0.01))
    assert not alike(vector(1.0, 0.0), vector(0.0, 1.0))
    assert not alike(vector(1.0, 0.0), vector(1.0, 0.0, 0.0))


def test_answers_of_the_cache_say_nothing_of_the_latency() -> None:
    judge = Judge(rules())
    for _ in range(200):
        judge.take(scored(seconds=0.0), scored(seconds=1.0))
        judge.take(scored(), scored(seconds=0.0))
    latency = [side["latency"] for side in judge.standing().questions.values()]
    assert latency == pytest.approx([1.0, 1.0])


def test_the_evidence_starts_at_one() -> None:
    standing = Judge(rules()).standing()
    assert (standing.compared, standing.worse, standing.fine) == (0, 1.0, 1.0)

"""A cascade at run time: which stage answers, what it answers, and when a text is too long."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from edgeloop.cascade import CONFIDENCE, CascadeModel, CascadeSettings, Prediction
from edgeloop.errors import EngineError, TextTooLong
from edgeloop.kinds import CASCADE, FIRST_LINEAR, FIRST_ONNX, FIRST_TOKENIZER, TOKENIZER
from edgeloop.linear import LinearModel
from edgeloop.models import open_model
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, RowOutput
from edgeloop.tasks import TASKS
from tests import stages, tiny

PREDICTED = Prediction(
    rows=1,
    hit_ratio=0.5,
    first_ms=0.1,
    second_ms=1.0,
    cost_ms=0.6,
    drop_ratio=0.0,
)


class Fixed:
    """Answers every text with the same logits; a text of more than `most` words is too long."""

    def __init__(self, logits: Sequence[float], embedding: Sequence[float], most: int = 9) -> None:
        self.output = RowOutput(np.array(logits, np.float32), np.array(embedding, np.float32))
        self.most = most
        self.asked = 0

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        assert isinstance(text, str)
        words = len(text.split())
        if words > self.most and not truncate:
            raise TextTooLong(text)
        self.asked += 1
        unknown = text.split().count("unknown")
        tokens = min(words, self.most)
        return Answered(self.output, tokens, words > self.most, unknown_tokens=unknown)

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        return [self.answer(text).output for text in texts]


def settings(**changes: Any) -> CascadeSettings:
    document: dict[str, Any] = {
        "task": "text-classification",
        "first": "linear",
        "first_temperature": 1.0,
        "second_temperature": 1.0,
        "threshold": 0.5,
        "predicted": PREDICTED,
    }
    return CascadeSettings.model_validate(document | changes)


@given(
    st.lists(st.floats(-20, 20), min_size=2, max_size=6),
    st.sampled_from(sorted(CONFIDENCE)),
)
def test_confidence_is_the_score_of_the_tasks_answer(values: list[float], task: str) -> None:
    logits = np.array(values, np.float32)
    labels = [str(i) for i in range(len(values))]
    score = TASKS[task].answer(RowOutput(logits, np.zeros(1, np.float32)), labels).score
    assert CONFIDENCE[task](logits) == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize(("threshold", "stage"), [(0.6, "first"), (0.7, "second")])
def test_the_threshold_says_who_answers(threshold: float, stage: str) -> None:
    first, second = Fixed([np.log(2.0), 0.0], [1, 0]), Fixed([0.0, 3.0], [0, 1])
    model = CascadeModel(first, second, settings(threshold=threshold))
    answered = model.answer("a b c")
    assert answered.stage == stage
    assert second.asked == (stage == "second")
    expected = first if stage == "first" else second
    np.testing.assert_array_equal(answered.output.logits, expected.output.logits)
    np.testing.assert_array_equal(answered.output.embedding, [1, 0])


@pytest.mark.parametrize("threshold", [0.6, 0.7])
def test_unknown_tokens_are_those_of_the_stage_that_answered(threshold: float) -> None:
    first, second = Fixed([np.log(2.0), 0.0], [1, 0]), Fixed([0.0, 3.0], [0, 1])
    model = CascadeModel(first, second, settings(threshold=threshold))
    assert model.answer("a unknown b").unknown_tokens == 1
    assert model.answer("a b").unknown_tokens == 0


def test_logits_are_divided_by_their_stages_temperature() -> None:
    first, second = Fixed([4.0, 0.0], [1]), Fixed([0.0, 3.0], [2])
    warm = settings(first_temperature=2.0, second_temperature=3.0, threshold=0.8)
    np.testing.assert_array_equal(
        CascadeModel(first, second, warm).answer("a").output.logits, [2.0, 0.0]
    )
    cool = settings(first_temperature=4.0, second_temperature=3.0, threshold=0.8)
    np.testing.assert_array_equal(
        CascadeModel(first, second, cool).answer("a").output.logits, [0.0, 1.0]
    )


@pytest.mark.parametrize(
    ("first_most", "second_most", "threshold", "refused"),
    [(2, 9, 0.0, True), (9, 2, 0.0, False), (9, 2, 1.0, True), (9, 9, 1.0, False)],
)
def test_a_text_is_refused_where_the_stage_that_answers_would_cut_it(
    first_most: int, second_most: int, threshold: float, refused: bool
) -> None:
    first, second = Fixed([1.0, 0.0], [1], first_most), Fixed([1.0, 0.0], [1], second_most)
    model = CascadeModel(first, second, settings(threshold=threshold))
    if refused:
        with pytest.raises(TextTooLong):
            model.answer("a b c", truncate=False)
        assert model.answer("a b c").output.logits.shape == (2,)
    else:
        assert model.answer("a b c", truncate=False).truncated is False


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["linear", "onnx"])
@pytest.mark.parametrize("task", sorted(CONFIDENCE))
def test_a_cascade_opens_from_its_folder(tmp_path: Path, first: str, task: str) -> None:
    made = stages.make_cascade(tmp_path / "cascade", task, first)
    assert CascadeSettings.open(tmp_path / "cascade" / CASCADE) == made
    model = open_model(tmp_path / "cascade", stages.MAX_TOKENS)
    rows = tiny.rows(task, 60, seed=11)
    answers = [model.answer(row.input) for row in rows]
    assert TASKS[task].right([a.output for a in answers], rows, tiny.LABELS).mean() > 0.9
    assert {a.stage for a in answers} <= {"first", "second"}
    small = open_model(tmp_path / "small", stages.MAX_TOKENS).score([r.input for r in rows])
    for answered, alone in zip(answers, small, strict=True):
        np.testing.assert_array_equal(answered.output.embedding, alone.embedding)


def test_a_first_encoder_may_have_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "cascade"
    stages.make_cascade(folder, first="onnx")
    document = json.loads((folder / CASCADE).read_text()) | {"threshold": 0.0}
    (folder / CASCADE).write_text(json.dumps(document))
    before = open_model(folder, 64).answer("late parcel").output.logits
    other = tiny.word_tokenizer()
    other.normalizer = normalizers.Replace("late", "leak")
    other.save(str(folder / FIRST_TOKENIZER))
    assert not np.array_equal(open_model(folder, 64).answer("late parcel").output.logits, before)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 1.5},
        {"first_temperature": 0.0},
        {"second_temperature": -1.0},
        {"first": "pickle"},
        {"task": "text-embedding"},
        {"schema_version": 2},
        {"more": 1},
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    document = json.loads(settings().model_dump_json()) | change
    (tmp_path / CASCADE).write_text(json.dumps(document))
    with pytest.raises(EngineError, match=f"{CASCADE}: not a CascadeSettings"):
        CascadeSettings.open(tmp_path / CASCADE)


def test_a_cascade_whose_stage_does_not_load_is_refused(tmp_path: Path) -> None:
    for first, name in (("linear", FIRST_LINEAR), ("onnx", FIRST_ONNX), ("onnx", TOKENIZER)):
        folder = tmp_path / name / "cascade"
        folder.parent.mkdir()
        stages.make_cascade(folder, first=first)
        (folder / name).write_bytes(b"damaged")
        with pytest.raises(EngineError, match=name):
            open_model(folder, 64)


def test_the_linear_stage_is_the_one_that_was_built(tmp_path: Path) -> None:
    stages.make_cascade(tmp_path / "cascade")
    stage = LinearModel(tmp_path / "cascade" / FIRST_LINEAR, 64)
    alone = open_model(tmp_path / "small", 64)
    text = "my invoice is late"
    np.testing.assert_array_equal(
        stage.answer(text).output.logits, alone.answer(text).output.logits
    )

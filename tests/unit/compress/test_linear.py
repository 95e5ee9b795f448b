"""The linear candidate: trained on labels and teacher, the same bytes for the same rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress import linear
from compress.linear import quantize, train_linear
from edgeloop.errors import ExportError
from edgeloop.kinds import LINEAR
from edgeloop.linear import LinearArrays, LinearModel
from edgeloop.rows import Row
from edgeloop.tasks import TASKS
from tests import stages, tiny

NONE = np.zeros((0, len(tiny.LABELS)), np.float32)


def opened(made: LinearArrays, folder: Path) -> LinearModel:
    made.save(folder / LINEAR)
    return LinearModel(folder / LINEAR, stages.MAX_TOKENS)


@pytest.mark.parametrize(
    ("task", "text_pair"),
    [
        ("text-classification", False),
        ("text-classification", True),
        ("multi-label-classification", False),
    ],
)
def test_it_learns_what_the_words_mean(tmp_path: Path, task: str, text_pair: bool) -> None:
    stages.make_linear(tmp_path / "linear", task, text_pair)
    model = LinearModel(tmp_path / "linear" / LINEAR, stages.MAX_TOKENS)
    rows = tiny.rows(task, 100, seed=9, text_pair=text_pair)
    right = TASKS[task].right(model.score([row.input for row in rows]), rows, tiny.LABELS)
    assert right.mean() > 0.9


def test_the_same_rows_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    tiny.make_model(tmp_path)
    for name in ("one", "two"):
        stages.train(tmp_path).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    stages.train(tmp_path, rows=tiny.rows(stages.TASK, 200, seed=8)).save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def probability(tmp_path: Path, teacher: list[float], label: str) -> float:
    """Of the class "a" for a text that the teacher and a person both saw many times."""
    rows = [Row(str(i), "alpha beta", (label,)) for i in range(40)]
    logits = np.tile(np.array(teacher, np.float32), (40, 1))
    made = train_linear(rows, logits, [], np.zeros((0, 2), np.float32), *COMMON)
    output = opened(made, tmp_path).score(["alpha beta"])[0]
    return float(TASKS[stages.TASK].probabilities(output, ("a", "b"))[0])


COMMON = ("text-classification", ("a", "b"), 0, 64)


def test_label_and_teacher_share_the_target(tmp_path: Path) -> None:
    undecided = probability(tmp_path, [0.0, 0.0], "a")
    agreed = probability(tmp_path, [9.0, 0.0], "a")
    contradicted = probability(tmp_path, [0.0, 9.0], "a")
    share = linear.LABEL_SHARE
    assert undecided == pytest.approx(share + (1 - share) / 2, abs=0.05)
    assert agreed > 0.95
    assert contradicted == pytest.approx(share, abs=0.05)


def test_unlabelled_texts_are_learned_from_the_teacher(tmp_path: Path) -> None:
    rows = [Row(str(i), f"alpha {i % 2}", ("a" if i % 2 else "b",)) for i in range(20)]
    logits = np.array([[9.0, 0.0] if i % 2 else [0.0, 9.0] for i in range(20)], np.float32)
    unlabelled = ["gamma delta"] * 20
    says_b = np.tile(np.array([0.0, 9.0], np.float32), (20, 1))
    made = train_linear(rows, logits, unlabelled, says_b, *COMMON)
    (output,) = opened(made, tmp_path).score(["gamma delta"])
    assert output.logits.argmax() == 1
    says_a = says_b[:, ::-1].copy()
    made = train_linear(rows, logits, unlabelled, says_a, *COMMON)
    (output,) = opened(made, tmp_path).score(["gamma delta"])
    assert output.logits.argmax() == 0


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_other_tasks_are_refused_with_the_reason(task: str) -> None:
    with pytest.raises(ExportError, match=f"not {task}; leave it out of compress.candidates"):
        train_linear(tiny.rows(task, 4), NONE, [], NONE, task, tiny.LABELS, 0, 64)


def test_texts_that_share_nothing_are_refused() -> None:
    rows = [Row("1", "ab", ("a",)), Row("2", "ЖЩ", ("b",))]
    with pytest.raises(ExportError, match="no n-gram stands in 2 of 2 training texts"):
        train_linear(rows, np.zeros((2, 2), np.float32), [], np.zeros((0, 2), np.float32), *COMMON)


def test_a_handful_of_rows_is_enough_to_train_on(tmp_path: Path) -> None:
    rows = [Row(str(i), "alpha", ("a",)) for i in range(2)]
    made = train_linear(
        rows, np.zeros((2, 2), np.float32), [], np.zeros((0, 2), np.float32), *COMMON
    )
    assert opened(made, tmp_path).score(["alpha"])[0].logits.argmax() == 0


@settings(max_examples=50)
@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 8))
def test_quantizing_loses_less_than_half_a_step(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, (rows, columns)).astype(np.float32)
    values[rng.random(rows) < 0.2] = 0.0
    table, row_scale, column_scale = quantize(values)
    step = row_scale[:, None].astype(np.float64) * column_scale
    assert (np.abs(table * step - values) <= 0.5 * step * (1 + 1e-3) + 1e-9).all()


@pytest.mark.parametrize("name", list(linear.KINDS))
def test_a_losss_gradient_is_its_slope(name: str) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 3)).astype(np.float32)
    targets = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    loss = linear.KINDS[name].loss
    _, gradient = loss(logits, targets)
    for at in np.ndindex(*logits.shape):
        moved = logits.copy()
        moved[at] += 0.01
        back = logits.copy()
        back[at] -= 0.01
        slope = (loss(moved, targets)[0] - loss(back, targets)[0]) / 0.02
        assert gradient[at] == pytest.approx(slope, abs=1e-3)

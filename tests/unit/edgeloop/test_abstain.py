"""The out-of-scope threshold: its rate holds, with ties and few rows as well."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.abstain import calibrate, threshold
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from tests import tiny

RATIOS = st.floats(0.001, 0.499)
SCORES = st.lists(st.floats(0.0, 1.0), max_size=60)
# Few values: most scores are tied.
TIED = st.lists(st.sampled_from([0.2, 0.5, 1.0]), max_size=60)


@given(SCORES | TIED, RATIOS)
def test_of_the_calibration_rows_fewer_than_the_ratio_are_below(
    scores: list[float], ratio: float
) -> None:
    below = threshold(scores, ratio)
    if below is None:
        assert ratio * (len(scores) + 1) < 1.0
        return
    assert below in scores
    assert sum(score < below for score in scores) <= ratio * (len(scores) + 1) - 1.0


@given(TIED.filter(bool), st.data(), RATIOS)
def test_any_row_of_an_exchangeable_set_is_marked_at_most_as_often_as_promised(
    scores: list[float], data: st.DataObject, ratio: float
) -> None:
    """Leave each row of a set out in turn: the share that is marked is the exact rate."""
    marked = 0
    for left_out, score in enumerate(scores):
        below = threshold([*scores[:left_out], *scores[left_out + 1 :]], ratio)
        marked += below is not None and score < below
    assert marked <= ratio * len(scores) + 1e-9


@given(SCORES, RATIOS)
def test_the_order_of_the_rows_does_not_matter(scores: list[float], ratio: float) -> None:
    assert threshold(scores, ratio) == threshold(scores[::-1], ratio)


@pytest.mark.parametrize("rows", [60, 99, 400])
@pytest.mark.parametrize("ratio", [0.02, 0.1])
def test_the_stated_rate_holds_in_a_simulation(rows: int, ratio: float) -> None:
    """Scores crowded at 1 as those of a sure model, half of them rounded into ties."""
    rng = np.random.default_rng([rows, int(1000 * ratio)])
    marked, asked = 0, 0
    for _ in range(600):
        scores = rng.beta(8.0, 1.0, size=rows + 200)
        scores[::2] = scores[::2].round(2)
        below = threshold(rng.permutation(scores[:rows]).tolist(), ratio)
        marked += 0 if below is None else int(np.sum(scores[rows:] < below))
        asked += 200
    # Requests after one calibration hang together: 600 calibrations count, not 120,000 requests.
    deviation = math.sqrt(ratio / (rows * 600) + ratio / asked)
    assert marked / asked <= ratio + 3.0 * deviation
    if ratio * (rows + 1) >= 1.0:
        assert marked > 0


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, math.nan])
def test_a_ratio_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="max_ratio"):
        threshold([0.5], ratio)


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        threshold([0.5, score], 0.1)


def model(folder: Path, task: str) -> OnnxModel:
    tiny.make_model(folder, task=task)
    return OnnxModel(folder / MODEL, folder / TOKENIZER, 64)


@pytest.mark.parametrize("task", [name for name in TASKS if name != "text-embedding"])
def test_the_threshold_is_one_of_the_models_own_scores(task: str, tmp_path: Path) -> None:
    loaded, rows = model(tmp_path, task), tiny.rows(task, 99, seed=6)
    found = calibrate(TASKS[task], loaded, tiny.LABELS, rows, 0.02)
    outputs = loaded.score(TASKS[task].inputs(rows))
    scores = sorted(TASKS[task].answer(output, tiny.LABELS).score for output in outputs)
    assert found.below == scores[1]
    assert found.rows == 99
    assert f"below a score of {found.below:.4f}" in found.reason


def test_too_few_rows_are_said_with_how_many_are_needed(tmp_path: Path) -> None:
    rows = tiny.rows("text-classification", 48, seed=6)
    loaded = model(tmp_path, "text-classification")
    found = calibrate(TASKS["text-classification"], loaded, tiny.LABELS, rows, 0.02)
    assert (found.below, found.rows) == (None, 48)
    assert "48 reference rows are too few" in found.reason
    assert "49 are needed" in found.reason
    one_more = tiny.rows("text-classification", 49, seed=6)
    enough = calibrate(TASKS["text-classification"], loaded, tiny.LABELS, one_more, 0.02)
    assert enough.below is not None


def test_vectors_are_never_out_of_scope(tmp_path: Path) -> None:
    rows = tiny.rows("text-embedding", 99, seed=6)
    found = calibrate(TASKS["text-embedding"], model(tmp_path, "text-embedding"), (), rows, 0.02)
    assert (found.below, found.rows) == (None, 0)
    assert "no confidence" in found.reason

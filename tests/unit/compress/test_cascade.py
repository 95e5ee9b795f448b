"""A cascade's folder: what it promises, and what is told where there is none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compress.cascade import build_cascade
from compress.threshold import Trial
from edgeloop.errors import EngineError, ExportError
from edgeloop.kinds import FIRST_TOKENIZER, model_files
from edgeloop.models import open_model
from tests import stages, tiny

# -- the folder --------------------------------------------------------------------------------


def test_what_is_predicted_is_what_the_cascade_does_on_the_choosing_rows(tmp_path: Path) -> None:
    made = stages.make_cascade(tmp_path / "cascade")
    chosen = stages.choosing(tmp_path / "large")
    model = open_model(tmp_path / "cascade", stages.MAX_TOKENS)
    first = [model.answer(row.input).stage == "first" for row in chosen.rows]
    predicted = made.predicted
    assert predicted.rows == len(chosen.rows)
    assert predicted.hit_ratio == pytest.approx(np.mean(first))
    assert (
        predicted.first_ms <= predicted.cost_ms <= predicted.first_ms + predicted.second_ms * 1.001
    )
    assert abs(predicted.drop_ratio) < chosen.trial.margin


def test_the_folder_holds_the_files_of_its_kind_and_no_more(tmp_path: Path) -> None:
    for first in ("linear", "onnx"):
        folder = tmp_path / first / "cascade"
        folder.parent.mkdir()
        stages.make_cascade(folder, first=first)
        assert {path.name for path in folder.iterdir()} == set(model_files(folder))
        assert FIRST_TOKENIZER not in model_files(folder)


def test_a_first_tokenizer_that_differs_goes_along(tmp_path: Path) -> None:
    small, large, folder = (tmp_path / name for name in ("small", "large", "cascade"))
    tiny.make_model(small, seed=1)
    tiny.make_model(large)
    folder.mkdir()
    (small / "tokenizer.json").write_text((small / "tokenizer.json").read_text() + "\n")
    build_cascade(small, large, stages.choosing(large), folder)
    assert FIRST_TOKENIZER in model_files(folder)


def test_the_reason_is_told_where_no_cascade_may_be_offered(tmp_path: Path) -> None:
    large, folder = tmp_path / "large", tmp_path / "cascade"
    tiny.make_model(large)
    stages.make_linear(tmp_path / "small")
    folder.mkdir()
    few = replace(stages.choosing(large, rows=20), trial=Trial(0.05, 0.95, 20))
    with pytest.raises(ExportError, match="by 20 validation rows no threshold .* on 20 test"):
        build_cascade(tmp_path / "small", large, few, folder)
    with pytest.raises(ExportError, match="needs validation rows, there are none"):
        build_cascade(tmp_path / "small", large, replace(few, rows=[], reference=[]), folder)
    other = replace(few, task="token-classification")
    with pytest.raises(ExportError, match="not token-classification; leave it out"):
        build_cascade(tmp_path / "small", large, other, folder)
    with pytest.raises(ExportError, match="not onnx and linear"):
        build_cascade(large, tmp_path / "small", few, folder)
    with pytest.raises(EngineError, match="no whole model lies here"):
        build_cascade(tmp_path / "none", large, few, folder)
    assert list(folder.iterdir()) == []

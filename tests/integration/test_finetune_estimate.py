"""An estimate on a tiny BERT: a part is trained, in a process of its own, and nothing is left."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import DatasetError, RecipeError, TrainingError
from edgeloop.estimating import estimate
from edgeloop.recipe import Recipe
from edgeloop.rundir import RunDir
from finetune import stage
from finetune.batches import Encoded, Sequences
from finetune.dataset import load
from finetune.probe import peak_bytes, probe, subset
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def make_recipe(tiny_bert: str, folder: Path, **keys: Any) -> Recipe:
    rows = folder / "rows.csv"
    tiny.write_rows(rows, tiny.sentences(80, seed=1))
    document = {
        "name": "tiny",
        "base": tiny_bert,
        "data": {"files": [str(rows)]},
        "finetune": {"lora": {"r": 4, "lora_alpha": 8}, "training": {"num_train_epochs": 2}},
        "serve": {"max_tokens": 32},
    }
    return Recipe.model_validate_json(json.dumps({**document, **keys}))


def test_methods_are_estimated_side_by_side(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    recipe = make_recipe(str(tiny_bert), tmp_path)
    found = estimate(recipe, print, methods=("full",))
    full, lora = found.methods
    assert (full.method, lora.method, found.own, found.epochs) == ("full", "lora", "lora", 2)
    assert full.trainable_ratio > 0.9 > lora.trainable_ratio > 0
    assert all(m.seconds > 0 and 100e6 < m.memory_bytes < 4e9 for m in found.methods)
    assert not [path for path in scratch.iterdir() if path.is_dir()]
    run = RunDir(tmp_path / "run")
    adapter = stage.train(recipe, stage.prepare(recipe, run), run, print)
    assert adapter.trainable_parameters == lora.trainable_parameters


@pytest.mark.parametrize(
    ("keys", "error", "said"),
    [
        ({"base": "/nowhere"}, RecipeError, "base '/nowhere': there is no such folder"),
        ({"serve": {"max_tokens": 4096}}, TrainingError, "set serve.max_tokens to 64 or less"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_the_words_of_training(
    tiny_bert: Path, tmp_path: Path, keys: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        probe(make_recipe(str(tiny_bert), tmp_path, **keys), "lora", time.time())


def test_bad_rows_are_refused_in_the_words_of_check(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = make_recipe(str(tiny_bert), tmp_path)
    (tmp_path / "rows.csv").write_text("id,text,label\n1,,a\n2,hello,\n3,hello,b\n")
    with pytest.raises(DatasetError) as checked:
        load(recipe)
    with pytest.raises(DatasetError) as caught:
        estimate(recipe, print, methods=())
    assert str(caught.value) == str(checked.value)


def test_another_method_that_cannot_be_trained_is_said_to_be_so(
    tiny_bert: Path, tmp_path: Path
) -> None:
    lora = {"lora": {"target_modules": ["no_such_layer"]}}
    recipe = make_recipe(str(tiny_bert), tmp_path, finetune={"method": "full", **lora})
    full, other = estimate(recipe, print, methods=("full", "lora")).methods
    assert full.problem == ""
    assert "no_such_layer names no linear layer" in other.problem


def test_a_subset_is_its_rows() -> None:
    sequences = Sequences([[1], [2, 2], [3]], None, [(), (), ()], 0)
    encoded = Encoded("text-classification", sequences, [[0], [1], [2]], [5, 6, 7])
    part = subset(encoded, [2, 1])
    assert (len(part), part.targets, part.tokens(0), part.tokens(1)) == (2, [7, 6], 1, 2)


def test_the_peak_of_memory_never_falls() -> None:
    before = peak_bytes()
    held = bytearray(b"x" * 300_000_000)
    during = peak_bytes()
    del held
    assert before <= during <= peak_bytes()
    assert during > 300_000_000

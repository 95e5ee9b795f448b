"""The space of a search, checked before anything trains."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import RecipeError
from edgeloop.recipe import Finetune, Recipe, load_recipe


def load(tmp_path: Path, space: dict[str, Any], **finetune: Any) -> Recipe:
    path = tmp_path / "recipe.yaml"
    document = {
        "name": "x",
        "base": "x",
        "data": {"files": ["rows.csv"]},
        "finetune": {"search": {"space": space}, **finetune},
    }
    path.write_text(json.dumps(document))
    return load_recipe(path)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"training.learning_rat": [0.1, 0.2]},
            r"training\.learning_rat: unknown key \(did you mean training\.learning_rate\?\)",
        ),
        ({"search.holdout": [0.1, 0.2]}, r"search\.holdout: unknown key"),
        ({"lora": [1, 2]}, r"lora: unknown key"),
        ({"lora.r": {"low": 0, "high": 8}}, r"lora\.r: .*greater than 0, it is 0"),
        ({"lora.r": {"low": 1.5, "high": 8}}, r"lora\.r: .*whole numbers"),
        ({"lora.r": [8, 0]}, r"lora\.r: .*greater than 0, it is 0"),
        ({"lora.lora_dropout": {"low": 0.0, "high": 1.0}}, r"lora\.lora_dropout: .*less than 1"),
        ({"method": ["lora", "lra"]}, r"method: .*it is 'lra'"),
        (
            {"adapter.reduction_factor": [2, 4]},
            r"adapter\.reduction_factor: method lora does not read it",
        ),
    ],
)
def test_what_the_recipe_would_refuse_is_refused_with_its_key(
    tmp_path: Path, space: dict[str, Any], said: str
) -> None:
    with pytest.raises(RecipeError, match=rf"recipe\.yaml: finetune\.search\.space\.{said}"):
        load(tmp_path, space)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, {"zzz": [1, 2], "lora.r": [0, 1]})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "space",
    [
        {"lora.r": {"low": 4, "high": 64, "log": True}, "lora.use_dora": [True, False]},
        {"method": ["lora", "adapter"], "adapter.reduction_factor": [2, 4], "lora.r": [4, 8]},
        {"training.bf16": ["auto", False], "lora.lora_dropout": [0, 0.1]},
    ],
)
def test_what_the_recipe_takes_can_be_searched(tmp_path: Path, space: dict[str, Any]) -> None:
    assert load(tmp_path, space).finetune.search is not None


def test_found_values_take_their_places_and_leave_nothing_to_search(tmp_path: Path) -> None:
    recipe = load(tmp_path, {"lora.r": [4, 8]}, training={"seed": 5})
    found = recipe.finetune.found({"lora.r": 4, "training.learning_rate": 0.01})
    assert (found.lora.r, found.learning_rate, found.training.seed) == (4, 0.01, 5)
    assert found.search is None
    assert found.unused_sections() == ()


def test_the_default_space_can_be_searched() -> None:
    assert Finetune.model_validate_json('{"search": {}}').search is not None


def test_a_recipe_with_a_search_is_read_back_from_its_bytes(tmp_path: Path) -> None:
    recipe = load(tmp_path, {"lora.r": {"low": 4, "high": 8}, "lora.use_dora": [True, False]})
    assert Recipe.model_validate_json(recipe.to_bytes()) == recipe

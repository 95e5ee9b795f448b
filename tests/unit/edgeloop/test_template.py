"""The recipe that `edgeloop init` writes."""

from pathlib import Path

import pytest

from edgeloop.errors import RecipeError
from edgeloop.recipe import load_recipe
from edgeloop.tasks import TASKS
from edgeloop.template import TASKS as TEMPLATES
from edgeloop.template import write_recipe


def test_every_task_has_a_template() -> None:
    assert TEMPLATES.keys() == TASKS.keys()


@pytest.mark.parametrize("task", TASKS)
def test_the_template_is_a_recipe_of_its_task(tmp_path: Path, task: str) -> None:
    recipe = load_recipe(write_recipe(tmp_path, task))
    assert recipe.task == task
    assert recipe.finetune.unused_sections() == ()


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_a_task_that_single_labels_cannot_retrain_has_no_schedule(
    tmp_path: Path, task: str
) -> None:
    assert load_recipe(write_recipe(tmp_path, task)).retrain.schedule is None


def test_an_unknown_task_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="text-generation: no such task; take one of text-cla"):
        write_recipe(tmp_path, "text-generation")
    assert not (tmp_path / "recipe.yaml").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    with pytest.raises(RecipeError, match="exists already"):
        write_recipe(tmp_path, "text-classification")
    assert (tmp_path / "recipe.yaml").read_text() == "mine"

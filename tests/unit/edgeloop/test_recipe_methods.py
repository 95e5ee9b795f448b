"""The recipe's methods: what cannot go together, and what is written for another method."""

from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from edgeloop.errors import RecipeError
from edgeloop.recipe import Finetune, Recipe, load_recipe
from edgeloop.recipe_finetune import LEARNING_RATES, Method

MINIMAL = "name: tiny\nbase: some/model\ndata: {files: [rows.csv]}\n"


def load(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(MINIMAL + text)
    return load_recipe(path)


def test_every_method_has_a_learning_rate() -> None:
    assert set(LEARNING_RATES) == set(get_args(Method))


def test_a_head_for_embeddings_is_refused_by_file_and_key(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as raised:
        load(tmp_path, "task: text-embedding\nfinetune: {method: head}\n")
    assert str(raised.value) == (
        f"{tmp_path}/recipe.yaml: finetune.method: head trains only a head, and task "
        "text-embedding has none; use lora or full"
    )


def test_the_resolved_recipe_is_refused_for_it_as_well() -> None:
    document = {"name": "x", "base": "b", "data": {"files": ["r.csv"]}, "task": "text-embedding"}
    with pytest.raises(ValidationError, match="head trains only a head"):
        Recipe.model_validate({**document, "finetune": {"method": "head"}}, strict=False)


@pytest.mark.parametrize(
    ("method", "written", "unread"),
    [
        ("lora", ["lora"], []),
        ("qlora", ["lora", "qlora"], []),
        ("lora", ["qlora"], ["qlora"]),
        ("adapter", ["adapter", "lora"], ["lora"]),
        ("prefix", ["prefix", "prompt"], ["prompt"]),
        ("full", ["adapter", "lora", "prefix", "prompt", "qlora"], None),
        ("ia3", [], []),
    ],
)
def test_sections_for_another_method_are_named(
    tmp_path: Path, method: str, written: list[str], unread: list[str] | None
) -> None:
    sections = ", ".join(f"{name}: {{}}" for name in written)
    recipe = load(tmp_path, f"finetune: {{method: {method}, {sections}}}\n")
    remarks = recipe.finetune.remarks()
    expected = written if unread is None else unread
    assert [line.split()[0] for line in remarks] == [f"finetune.{name}" for name in expected]
    assert all(f"finetune.method {method} does not read it" in line for line in remarks)


def test_defaults_are_no_sections_that_were_written() -> None:
    assert Finetune(method="prompt").remarks() == ()

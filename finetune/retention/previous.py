"""The model that is deployed before a run: what it was trained on, and what it answers."""

from collections.abc import Sequence

from edgeloop.bundle import Bundle
from edgeloop.errors import EdgeloopError, RecipeError
from edgeloop.models import open_model
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset
from edgeloop.rows import Row, TextInput, read_rows
from edgeloop.rundir import RECORD_NAME, list_files
from edgeloop.runtime import RowOutput

# Tasks with one vector of logits per row, which another model's can be held against.
DISTILLABLE = ("text-classification", "multi-label-classification")


def check_retention(recipe: Recipe, previous: Bundle | None) -> None:
    """Before anything is trained: what the recipe asks for must be there.

    Raises RecipeError that says what is missing and what to set.
    """
    retention, key = recipe.finetune.retention, "finetune.retention"
    known = comparable(recipe, previous)
    if retention.distillation_weight > 0.0 and recipe.task not in DISTILLABLE:
        raise RecipeError(
            f"{key}.distillation_weight is {retention.distillation_weight:g}: task {recipe.task} "
            f"cannot be distilled, only {' and '.join(DISTILLABLE)}; set it to 0 and use "
            f"{key}.replay_ratio"
        )
    if retention.distillation_weight > 0.0 and known is None:
        raise RecipeError(
            f"{key}.distillation_weight is {retention.distillation_weight:g}: no model of task "
            f"{recipe.task} is deployed for {recipe.name} to distil from; set it to 0 until one is"
        )
    if retention.replay_ratio > 0.0 and known is None and not retention.files:
        raise RecipeError(
            f"{key}.replay_ratio is {retention.replay_ratio:g}: nothing is deployed for "
            f"{recipe.name} and {key}.files is empty, so there is nothing to replay; set it to 0 "
            "or name files"
        )


def comparable(recipe: Recipe, previous: Bundle | None) -> Bundle | None:
    """The previous model, where it does the same task: other answers compare with nothing."""
    return previous if previous is not None and previous.manifest.task == recipe.task else None


def used_digest(recipe: Recipe, previous: Bundle | None) -> str | None:
    """The previous bundle's digest where the training depends on it, else None: a model that is
    only compared with must not make another run of the same one."""
    retention, known = recipe.finetune.retention, comparable(recipe, previous)
    used = retention.replay_ratio > 0.0 or retention.distillation_weight > 0.0
    return known.digest if known is not None and used else None


def answers(previous: Bundle, inputs: Sequence[TextInput]) -> list[RowOutput]:
    """What the deployed artefact says, on the runtime that serves it."""
    return open_model(previous.path, previous.manifest.max_tokens).score(inputs)


def training_rows(previous: Bundle) -> list[Row]:
    """The rows that the previous model was trained on, from the run folder around its bundle; none
    where that folder is gone or holds another dataset.

    Raises EdgeloopError where the dataset is damaged.
    """
    folder = previous.path.parent / "dataset"
    try:
        record = Dataset.read(folder / RECORD_NAME)
    except EdgeloopError:
        return []  # the bundle was copied here, or its run was removed
    if record.digest != previous.manifest.parents.get("dataset"):
        return []
    if list_files(folder) != record.files:
        raise EdgeloopError(
            f"{folder}: the files are not those that its record names; put them back, or set "
            "finetune.retention.replay_ratio to 0"
        )
    return read_rows(folder, "train")

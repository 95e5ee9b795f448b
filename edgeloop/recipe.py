"""The recipe: one YAML file that describes the whole loop, and the sole owner of defaults.

Reads the file, applies `--set a.b=value`, validates once and reports every problem at once, each
with file and key. Unknown keys are errors with a suggestion. `edgeloop check` prints the result.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from cronsim import CronSim, CronSimError
from pydantic import (
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from edgeloop.document import COMBINATION, explain, kind_name, read_document
from edgeloop.errors import RecipeError
from edgeloop.recipe_compress import Budget, CandidateKind, Compress, Distill
from edgeloop.recipe_data import Audit, Augment, Columns, Data, Split, SplitFiles
from edgeloop.recipe_finetune import Finetune, Lora, Method, Retention, Training
from edgeloop.recipe_search import Range, Search
from edgeloop.section import Section
from edgeloop.yaml12 import YamlProblem, parse_scalar

__all__ = [
    "Audit",
    "Augment",
    "Budget",
    "CandidateKind",
    "Columns",
    "Compress",
    "Data",
    "Distill",
    "Finetune",
    "Lora",
    "Method",
    "Monitor",
    "Range",
    "Recipe",
    "Retention",
    "Retrain",
    "Search",
    "Serve",
    "Split",
    "SplitFiles",
    "TaskName",
    "Training",
    "load_recipe",
    "make_recipe",
]


class Serve(Section):
    """Limits that travel in the bundle. `max_abstain_ratio`: the share of ordinary requests that
    may be marked as out of scope, at most; the confidence below which that happens follows."""

    max_tokens: int = Field(128, ge=8, le=8192)
    deadline_ms: PositiveInt = 1000
    max_abstain_ratio: float = Field(0.02, gt=0.0, lt=0.5)


class Monitor(Section):
    """What the drift alarm promises, and how accurate is accurate enough."""

    target_run_length: int = Field(20_000, ge=100)
    accuracy_floor: float = Field(0.85, gt=0.0, le=1.0)
    advisory: bool = False


class Retrain(Section):
    """When the nightly job may train, and what its model must show before it is promoted."""

    schedule: str | None = None
    cooldown_hours: float = Field(6.0, ge=0.0)
    labels_per_round: PositiveInt = 200
    golden_margin: float = Field(0.05, gt=0.0, lt=1.0)

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                following = next(CronSim(value, datetime.now(UTC)), None)
            except CronSimError as problem:
                raise ValueError(f"{value!r} is not a cron expression ({problem})") from problem
            if following is None:
                raise ValueError(f"{value!r} names a day that never comes")
        return value


TaskName = Literal[
    "text-classification", "multi-label-classification", "token-classification", "text-embedding"
]


class Recipe(Section):
    """The whole document."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    task: TaskName = "text-classification"
    base: str = Field(min_length=1)
    data: Data
    finetune: Finetune = Finetune()
    compress: Compress = Compress()
    serve: Serve = Serve()
    monitor: Monitor = Monitor()
    retrain: Retrain = Retrain()

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.finetune.method == "head" and self.task == "text-embedding":
            raise PydanticCustomError(
                COMBINATION,
                "head trains only a head, and task text-embedding has none; use lora or full",
                {"key": "finetune.method"},
            )
        return self

    def to_bytes(self) -> bytes:
        """The resolved recipe, so that Recipe.model_validate_json reads the same one back: files
        that are split already go without the split that they must not have."""
        is_split = isinstance(self.data.files, SplitFiles)
        document = self.model_dump(mode="json", exclude={"data": {"split"}} if is_split else None)
        return f"{json.dumps(document, ensure_ascii=False, indent=2)}\n".encode()

    def digest(self) -> str:
        """SHA-256 over the resolved recipe as canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe. Relative data files and a relative base folder are taken from
    the recipe's own folder.

    Raises RecipeError that names every problem at once, one line each.
    """
    recipe = make_recipe(
        read_document(path, "recipe", "`edgeloop init` writes one"), overrides, path
    )
    return _resolve_paths(recipe, path.parent)


def make_recipe(document: dict[str, Any], overrides: Sequence[str], where: Path) -> Recipe:
    """Validate a document with `--set` applied to it, in place. Raises RecipeError as above, each
    line beginning with `where`."""
    for override in overrides:
        _apply_override(document, override)
    try:
        return Recipe.model_validate_json(json.dumps(document))
    except ValidationError as problem:
        raise RecipeError("\n".join(explain(where, problem, Recipe))) from None


def _apply_override(document: dict[str, Any], override: str) -> None:
    """`a.b=value`: the value is read as a YAML scalar, list or mapping."""
    key, separator, text = override.partition("=")
    if not separator or not all(key.split(".")):
        raise RecipeError(f"--set {override}: write --set key.subkey=value")
    *parents, last = key.split(".")
    node = document
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(f"--set {override}: {parent} is {kind_name(child)}, it has no keys")
        node = child
    try:
        node[last] = parse_scalar(text)
    except (YamlProblem, yaml.YAMLError) as problem:
        raise RecipeError(f"--set {override}: {' '.join(str(problem).split())}") from None


def _resolve_paths(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(paths: Iterable[Path]) -> tuple[Path, ...]:
        return tuple((folder / p).resolve() for p in paths)

    files = recipe.data.files
    if isinstance(files, SplitFiles):
        resolved: Any = SplitFiles(
            **{name: absolute(paths) for name, paths in files if paths is not None}
        )
    else:
        resolved = absolute(files)
    unlabelled = absolute(recipe.data.unlabelled)
    data = recipe.data.model_copy(update={"files": resolved, "unlabelled": unlabelled})
    retention = recipe.finetune.retention
    retention = retention.model_copy(update={"files": absolute(retention.files)})
    finetune = recipe.finetune.model_copy(update={"retention": retention})
    base = recipe.base
    if not base.startswith("package:") and (folder / base).is_dir():
        base = str((folder / base).resolve())
    return recipe.model_copy(update={"data": data, "base": base, "finetune": finetune})

"""The recipe: one YAML file that describes the whole loop, and the sole owner of defaults.

Reads the file, applies `--set a.b=value`, validates once and reports every problem at once, each
with file and key. Unknown keys are errors with a suggestion. `edgeloop check` prints the result.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from cronsim import CronSim, CronSimError
from pydantic import (
    BaseModel,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from edgeloop.errors import RecipeError
from edgeloop.recipe_compress import Budget, CandidateKind, Compress, Distill
from edgeloop.recipe_data import Audit, Augment, Columns, Data, Split, SplitFiles
from edgeloop.recipe_finetune import Finetune, Lora, Method, Retention, Training
from edgeloop.recipe_search import Range, Search, SpaceError
from edgeloop.section import Section
from edgeloop.yaml12 import YamlProblem, load_yaml, parse_scalar

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

SHOWN_CHARACTERS = 80
# From more words than this the one that was meant is pointed out.
SHOWN_WORDS = 8
# The type of a problem that lies between two keys; its context names the one to change.
COMBINATION = "combination"


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
    recipe = make_recipe(_read_document(path), overrides, path)
    return _resolve_paths(recipe, path.parent)


def make_recipe(document: dict[str, Any], overrides: Sequence[str], where: Path) -> Recipe:
    """Validate a document with `--set` applied to it, in place. Raises RecipeError as above, each
    line beginning with `where`."""
    for override in overrides:
        _apply_override(document, override)
    try:
        return Recipe.model_validate_json(json.dumps(document))
    except ValidationError as problem:
        raise RecipeError("\n".join(_explain(where, document, problem))) from None


def _read_document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe; `edgeloop init` writes one") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text ({problem})") from None
    try:
        document = load_yaml(text)
    except (YamlProblem, yaml.YAMLError) as problem:
        raise RecipeError(f"{path}: {' '.join(str(problem).split())}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys, this is {_name(document)}")
    return document


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
            raise RecipeError(f"--set {override}: {parent} is {_name(child)}, it has no keys")
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


def _explain(path: Path, document: Any, problem: ValidationError) -> list[str]:
    """One line per problem: `file: key: what, which value, what to do`."""
    said: dict[str, list[str]] = {}
    for error in problem.errors(include_url=False):
        location = [str(part) for part in error["loc"] if not _is_union_tag(part)]
        if error["type"] == COMBINATION:
            location = error["ctx"]["key"].split(".")
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, SpaceError):
            place = ".".join([*location, "search.space"])
            said |= {f"{place}.{key}": [why] for key, why in cause.problems.items()}
            continue
        lines = said.setdefault(".".join(location) or "recipe", [])
        line = _say(error, location)
        if line not in lines:
            lines.append(line)
    # A union reports every member that it tried; the deepest one is what the writer meant.
    return [
        f"{path}: {key}: {', or '.join(lines)}"
        for key, lines in sorted(said.items())
        if not _has_deeper(key, said)
    ]


def _has_deeper(key: str, said: Iterable[str]) -> bool:
    return any(other.startswith(key + ".") for other in said)


def _is_union_tag(part: int | str) -> bool:
    """pydantic names the tried member of a union in the location; a reader has no use for it."""
    return isinstance(part, str) and (
        part.startswith(("literal[", "tuple[", "constrained-", "function-")) or part == "SplitFiles"
    )


def _say(error: Any, location: list[str]) -> str:
    kind, value = error["type"], error.get("input")
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key ({hint})"
    if location == ["data", "files"]:
        return (
            f"write a list of files, or train, validation, reference and test, not {_show(value)}"
        )
    if kind == "missing":
        return "is missing; the recipe must set it"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        return f"{_show(value)} is text, a number is needed (remove the quotes)"
    if kind in ("value_error", COMBINATION):
        return message
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        close = difflib.get_close_matches(str(value), known, n=1)
        if close and len(known) > SHOWN_WORDS:
            return (
                f"{_show(value)} is unknown (did you mean {close[0]}?); known: {', '.join(known)}"
            )
    if kind == "tuple_type":
        return f"write a list such as [a, b], not {_show(value)}"
    if kind == "model_type":
        return f"keys are needed below it, it is {_show(value)}"
    return f"{message}, it is {_show(value)}"


def _keys_at(location: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        field = model.model_fields.get(part)
        annotation = field.annotation if field else None
        if part == "files":
            annotation = SplitFiles
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)


def _show(value: Any) -> str:
    """The value as the writer sees it, cut where it is long."""
    if value is None or isinstance(value, dict):
        return _name(value)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _name(value: Any) -> str:
    names = {list: "a list", str: "text", type(None): "empty", dict: "a mapping"}
    return names.get(type(value), f"a {type(value).__name__}")

"""YAML documents that people write: reading one, and saying what is wrong with it, all of it at
once, each problem with file and key, in words.
"""

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from edgeloop.errors import RecipeError
from edgeloop.recipe_search import SpaceError
from edgeloop.yaml12 import YamlProblem, load_yaml

SHOWN_CHARACTERS = 80
# From more words than this the one that was meant is pointed out.
SHOWN_WORDS = 8
# The type of a problem that lies between two keys; its context names the one to change.
COMBINATION = "combination"


def read_document(path: Path, what: str, hint: str) -> dict[str, Any]:
    """The mapping in a YAML file. `what`: the file's kind, in messages; `hint`: how to get one.

    Raises RecipeError where the file is not there, or is no such mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such {what}; {hint}") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path}: cannot be read as UTF-8 text ({problem})") from None
    try:
        document = load_yaml(text)
    except (YamlProblem, yaml.YAMLError) as problem:
        raise RecipeError(f"{path}: {' '.join(str(problem).split())}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path}: a {what} is a mapping of keys, this is {kind_name(document)}")
    return document


def explain(path: Path, problem: ValidationError, model: type[BaseModel]) -> list[str]:
    """What is wrong with a document of `model`, one line per problem: `file: key: what, which
    value, what to do`."""
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
        line = _say(error, location, model)
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


def _say(error: Any, location: list[str], model: type[BaseModel]) -> str:
    kind, value = error["type"], error.get("input")
    message = str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        known = _keys_at(model, location[:-1])
        close = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
        return f"unknown key ({hint})"
    if location == ["data", "files"]:
        return (
            f"write a list of files, or train, validation, reference and test, not {_show(value)}"
        )
    if kind == "missing":
        return "is missing; it must be set"
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


def _keys_at(model: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        field = model.model_fields.get(part)
        if field is None:
            return []
        members = (field.annotation, *get_args(field.annotation))
        models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
        if not models:
            return []
        model = models[0]
    return list(model.model_fields)


def _show(value: Any) -> str:
    """The value as the writer sees it, cut where it is long."""
    if value is None or isinstance(value, dict):
        return kind_name(value)
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def kind_name(value: Any) -> str:
    """What a value is, in the words of YAML."""
    names = {list: "a list", str: "text", type(None): "empty", dict: "a mapping"}
    return names.get(type(value), f"a {type(value).__name__}")

"""The recipe's `finetune.search`: its keys, and whether a space can be searched."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from edgeloop.section import Section

Value = int | float | bool | str


class Range(Section):
    """Optuna's suggest_float, or suggest_int where the key holds whole numbers: from low to high,
    both included, on a log scale where asked."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0.0:
            raise ValueError(f"a log scale needs low above 0, it is {self.low:g}")
        return self


Choices = Annotated[tuple[Value, ...], Field(min_length=2)]


class Search(Section):
    """Hyperparameter search (Optuna: TPE, median pruning). It ends at whichever budget is reached
    first. `holdout` of the training rows are set apart to judge trials on, so that neither the
    validation rows nor the test rows are touched."""

    n_trials: PositiveInt | None = 20
    timeout_minutes: PositiveFloat | None = None
    n_jobs: PositiveInt = 1
    holdout: float = Field(0.2, gt=0.0, lt=0.9)
    space: dict[str, Choices | Range] = Field(
        default={
            "training.learning_rate": Range(low=2.0e-4, high=4.0e-3, log=True),
            "training.per_device_train_batch_size": (16, 32),
        },
        min_length=1,
    )

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.n_trials is None and self.timeout_minutes is None:
            raise ValueError("set n_trials or timeout_minutes; a search needs an end")
        return self


class SpaceError(ValueError):
    """What is wrong with a space, by its key; `edgeloop.recipe` says each with its full name."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"search.space.{key}: {why}" for key, why in problems.items()))
        self.problems = dict(problems)


def leaves(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> type of every key below a section."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= leaves(kind, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = kind
    return found


def is_whole(model: type[BaseModel], key: str) -> bool:
    """True where the key holds integers."""
    return leaves(model)[key] is int


def with_values(settings: Section, values: Mapping[str, Value]) -> dict[str, Any]:
    """The section's document as far as it was written, with the values put in and without a
    search; dotted names."""
    document = settings.model_dump(mode="json", exclude_unset=True, exclude={"search"})
    for key, value in values.items():
        *parents, last = key.split(".")
        node = document
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return document


def unknown(model: type[BaseModel], key: str) -> str | None:
    """Why the key cannot be searched over; None where it can."""
    known = [name for name in leaves(model) if name != "search"]
    if key in known:
        return None
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown key (did you mean {close[0]}?)" if close else "unknown key of finetune"


def corners(whole: bool, space: tuple[Value, ...] | Range) -> list[Value]:
    """Every choice, or both ends. Raises ValueError where whole numbers are needed."""
    if not isinstance(space, Range):
        return list(space)
    ends = (space.low, space.high)
    if not whole:
        return list(ends)
    if not all(end.is_integer() for end in ends):
        raise ValueError(f"low and high must be whole numbers here, they are {ends[0]}, {ends[1]}")
    return [int(end) for end in ends]


def first_message(problem: ValidationError) -> str:
    """What pydantic says of the first problem, and of which value."""
    first = problem.errors(include_url=False)[0]
    return f"{str(first['msg']).removeprefix('Value error, ')}, it is {first['input']!r}"

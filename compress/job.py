"""What the stage works from."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from compress.rows import GateRows, read_gate_rows
from edgeloop.recipe import Recipe
from edgeloop.records import MergedModel
from edgeloop.rows import UNLABELLED, Row, TextInput, read_rows
from edgeloop.tasks import TASKS, Task

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """`data`: the dataset's folder, `folder`: the stage's, `scratch`: one that is thrown away."""

    recipe: Recipe
    record: MergedModel
    merged_folder: Path
    data: Path
    folder: Path
    scratch: Path
    inputs_digest: str
    progress: Progress

    @property
    def task(self) -> Task:
        """How the recipe's task reads rows and answers."""
        return TASKS[self.recipe.task]

    @property
    def max_tokens(self) -> int:
        """Where texts are cut."""
        return self.recipe.serve.max_tokens

    @cached_property
    def rows(self) -> GateRows:
        """The rows to choose and to judge on."""
        return read_gate_rows(self.data)

    @cached_property
    def choosing_texts(self) -> list[TextInput]:
        """What the model reads to be chosen."""
        return self.task.inputs(self.rows.choosing)

    @cached_property
    def judging_texts(self) -> list[TextInput]:
        """What the model reads to be judged."""
        return self.task.inputs(self.rows.judging)

    @cached_property
    def training_rows(self) -> list[Row]:
        """The labelled rows that students are taught on."""
        return read_rows(self.data, "train")

    @cached_property
    def unlabelled(self) -> list[TextInput]:
        """Texts that nobody has labelled."""
        return [row.input for row in read_rows(self.data, UNLABELLED)]

    @property
    def training_texts(self) -> list[TextInput]:
        """What the making of a candidate may look at."""
        return [*self.task.inputs(self.training_rows), *self.unlabelled]

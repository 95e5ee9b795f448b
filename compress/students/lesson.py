"""What a student is taught from: the teacher, labelled rows, texts without labels, and how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from compress.merged import Merged
from compress.students.material import Material, make_material
from edgeloop.recipe import Distill
from edgeloop.rows import Row, TextInput


@dataclass(frozen=True)
class Lesson:
    """`rows` are labelled training rows; of `unlabelled` only the teacher's answers are learned.
    The same lesson serves every student: its texts are tokenized and answered by the teacher once.
    """

    teacher: Merged
    task: str
    labels: tuple[str, ...]
    rows: Sequence[Row]
    unlabelled: Sequence[TextInput]
    max_tokens: int
    settings: Distill
    progress: Callable[[str], None]

    @cached_property
    def material(self) -> Material:
        """Tokens, targets and the teacher's answers of all texts, labelled rows first.

        Raises ExportError where there is no text, or the teacher's answers are not numbers.
        """
        return make_material(
            self.teacher, self.task, self.labels, self.rows, self.unlabelled, self.max_tokens
        )

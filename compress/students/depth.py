"""Students with fewer layers, which begin as some of the teacher's own (DistilBERT, arXiv
1910.01108)."""

from dataclasses import replace

import numpy as np

from compress.merged import Merged
from compress.students.layers import encoder_layers, keep_layers
from compress.students.lesson import Lesson
from compress.students.losses import Match
from compress.students.train import Course, teach
from edgeloop.errors import ExportError


def half_depth(lesson: Lesson) -> Merged:
    """Half of the teacher's layers. Raises ExportError where it has only one."""
    return _shallow(lesson, "student-half", half(_depth(lesson)))


def third_depth(lesson: Lesson) -> Merged:
    """A third of the teacher's layers. Raises ExportError where that is no less than a half."""
    return _shallow(lesson, "student-third", third(_depth(lesson)))


def half(layers: int) -> int:
    """How many layers are half of these. Raises ExportError where there is only one."""
    if layers < 2:
        raise ExportError(f"student-half: the teacher has {layers} layer; it cannot be halved")
    return layers // 2


def third(layers: int) -> int:
    """How many layers are a third of these, fewer than half. Raises ExportError for three or less
    than three."""
    count = max(1, round(layers / 3))
    if layers < 2 or count >= half(layers):
        raise ExportError(
            f"student-third: the teacher has {layers} layers, and a third of them is no less than "
            "the half of student-half"
        )
    return count


def chosen_layers(layers: int, count: int) -> tuple[int, ...]:
    """`count` of the layers, evenly spaced, the first and the last among them; the first where it
    is one: it alone was made to read the embeddings."""
    return tuple(int(i) for i in np.linspace(0, layers - 1, count).round())


def _depth(lesson: Lesson) -> int:
    return len(encoder_layers(lesson.teacher.module))


def _shallow(lesson: Lesson, kind: str, count: int) -> Merged:
    kept = chosen_layers(_depth(lesson), count)
    module = keep_layers(lesson.teacher.module, kept)
    student = replace(lesson.teacher, module=module)
    settings = lesson.settings
    course = Course(
        kind=kind,
        epochs=settings.num_train_epochs,
        batch_rows=settings.batch_rows,
        learning_rate=settings.learning_rate,
        rate_key="compress.distill.learning_rate",
        match=Match(kept),
    )
    teach(module, student.inputs, lesson, course)
    return student

"""A student as deep as the teacher and narrower: it begins as the teacher's most important hidden
components, heads and FFN units."""

import copy
from dataclasses import replace

import torch

from compress.merged import Merged
from compress.modules import Exported
from compress.students.importance import hidden_norms, importance
from compress.students.layers import encoder_layers
from compress.students.lesson import Lesson
from compress.students.losses import Match
from compress.students.parts import cut_columns, cut_norm, cut_rows, cut_table, parts_of
from compress.students.pruning import cut, most
from compress.students.train import Course, teach
from edgeloop.errors import ExportError

KIND = "student-narrow"
COMPONENT_BLOCK = 16


def narrow(lesson: Lesson) -> Merged:
    """The share `narrow_ratio` of the hidden size, and of every layer's heads and FFN units; the
    embedding is as narrow. Raises ExportError for an architecture that is not known."""
    settings, teacher = lesson.settings, lesson.teacher
    found = importance(lesson, KIND)
    hidden = len(found.components)
    kept = torch.tensor(most(found.components, narrow_width(hidden, settings.narrow_ratio)))
    module = copy.deepcopy(teacher.module)
    cut(module, KIND, found, settings.narrow_ratio)
    cut_hidden(module, kept)
    student = replace(teacher, module=module)
    course = Course(
        kind=KIND,
        epochs=settings.narrow_epochs,
        batch_rows=settings.batch_rows,
        learning_rate=settings.learning_rate,
        rate_key="compress.distill.learning_rate",
        match=Match(tuple(range(len(found.heads))), torch.eye(hidden)[:, kept]),
    )
    teach(module, student.inputs, lesson, course)
    return student


def narrow_width(hidden: int, ratio: float) -> int:
    """This share of the hidden size, in whole blocks where it has any."""
    width = max(1, round(ratio * hidden))
    return width // COMPONENT_BLOCK * COMPONENT_BLOCK or width


def cut_hidden(module: Exported, kept: torch.Tensor) -> None:
    """Keep these components of the hidden state, in place: in every table, layer norm and matrix
    that reads or writes it."""
    hidden = int(module.model.config.hidden_size)
    if any(isinstance(part, torch.nn.Conv1d) for part in module.modules()):
        raise ExportError(f"{KIND}: a convolution reads this model's hidden state; it is not cut")
    for norm in hidden_norms(module):
        cut_norm(norm, kept)
    for own in parts_of(module, KIND):
        for linear in (*own.projections, own.inner):
            cut_columns(linear, kept)
        for linear in (own.output, own.outer):
            cut_rows(linear, kept)
    _cut_around(module, hidden, kept)


def _cut_around(module: Exported, hidden: int, kept: torch.Tensor) -> None:
    """Tables, and the matrices of the task's head; its last one makes the logits, not a state."""
    inside = {id(part) for part in encoder_layers(module).modules()}
    outside = [part for part in module.modules() if id(part) not in inside]
    for table in outside:
        if isinstance(table, torch.nn.Embedding) and table.embedding_dim == hidden:
            cut_table(table, kept)
    linears = [part for part in outside if isinstance(part, torch.nn.Linear)]
    for linear in linears:
        if linear.in_features == hidden:
            cut_columns(linear, kept)
        if linear.out_features == hidden and linear is not linears[-1]:
            cut_rows(linear, kept)

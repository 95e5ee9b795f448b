"""Every kind of student, by the recipe's candidate kind."""

from collections.abc import Callable

from compress.merged import Merged
from compress.students.depth import half_depth, third_depth
from compress.students.lesson import Lesson
from compress.students.narrow import narrow
from compress.students.pruning import pruned
from compress.students.static import static

# Each raises ExportError where the teacher's architecture, depth or task does not allow it, and
# where the training diverges.
STUDENTS: dict[str, Callable[[Lesson], Merged]] = {
    "student-half": half_depth,
    "student-third": third_depth,
    "student-narrow": narrow,
    "pruned": pruned,
    "static": static,
}

"""Labelled rows of the ledger (an id, a text, a label) and rows of a dataset, one to the other."""

from edgeloop.errors import DatasetError
from edgeloop.ledger import LabelledRow
from edgeloop.recipe import TaskName
from edgeloop.rows import Row
from finetune.cells import LABEL_DIVIDER

CARRIED = ("text-classification", "multi-label-classification")


def check_carried(task: TaskName, with_pair: bool) -> None:
    """Raises DatasetError where a labelled row cannot say what this task's rows say."""
    if task not in CARRIED:
        raise DatasetError(
            f"labelled rows from production carry a text and a label, which is no row of {task}; "
            "add rows to data.files and run again"
        )
    if with_pair:
        raise DatasetError(
            "labelled rows from production carry one text, the recipe's rows are pairs of texts; "
            "add rows to data.files and run again"
        )


def from_labelled(row: LabelledRow, task: TaskName) -> Row:
    """A row of a split; several labels are divided by "|", no text is no label."""
    labels = [row.label]
    if task == "multi-label-classification":
        labels = sorted({part.strip() for part in row.label.split(LABEL_DIVIDER)} - {""})
    return Row(row.id, row.text, tuple(labels), where=f"labelled row {row.id!r}")


def to_labelled(row: Row) -> LabelledRow:
    """What the ledger keeps of a row."""
    return LabelledRow(row.id, row.text, row.label)

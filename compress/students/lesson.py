"""What a student is taught from: the teacher, labelled rows, texts without labels, and how long."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from compress.merged import Merged
from compress.students.material import Material, make_material
from edgeloop.rows import Row, TextInput


@dataclass(frozen=True)
class Settings:
    """How students are taught.

    epochs              passes over all texts: of a student with fewer layers
    narrow_epochs       of a narrower one, whose start is further from the teacher
    recovery_epochs     of a pruned one
    static_epochs       of a table of token vectors
    learning_rate       AdamW's peak, of students with an encoder; linear warm-up and decay
    static_learning_rate    the same of the table and its head
    warmup_ratio        share of the steps that the learning rate rises
    weight_decay        AdamW's, of matrices
    max_grad_norm       longer gradients are scaled to it
    batch_rows          rows per step, of students with an encoder
    static_batch_rows   rows per step of the table and its head
    seed                order of the rows, random directions of the pruning
    temperature         divides the logits of teacher and student in the soft loss
    label_weight        share of the labels in the loss on a labelled row, the rest is the teacher's
    hidden_weight       weight of the hidden states and the embedding beside that loss
    narrow_ratio        share of hidden size, heads and FFN width that the narrow student keeps
    pruned_ratio        share of heads and FFN width that the pruned student keeps
    static_width        components of a token's vector, at most the teacher's hidden size
    """

    epochs: int
    narrow_epochs: int
    recovery_epochs: int
    static_epochs: int
    learning_rate: float
    static_learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    batch_rows: int
    static_batch_rows: int
    seed: int
    temperature: float
    label_weight: float
    hidden_weight: float
    narrow_ratio: float
    pruned_ratio: float
    static_width: int


# What the benchmark's figures were measured with.
MEASURED = Settings(
    epochs=6,
    narrow_epochs=8,
    recovery_epochs=3,
    static_epochs=10,
    learning_rate=4e-4,
    static_learning_rate=1e-2,
    warmup_ratio=0.1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    batch_rows=32,
    static_batch_rows=128,
    seed=0,
    temperature=2.0,
    label_weight=0.3,
    hidden_weight=1.0,
    narrow_ratio=0.5,
    pruned_ratio=0.5,
    static_width=256,
)


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
    settings: Settings
    progress: Callable[[str], None]

    @cached_property
    def material(self) -> Material:
        """Tokens, targets and the teacher's answers of all texts, labelled rows first.

        Raises ExportError where there is no text, or the teacher's answers are not numbers.
        """
        return make_material(
            self.teacher, self.task, self.labels, self.rows, self.unlabelled, self.max_tokens
        )

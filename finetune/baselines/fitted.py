"""What every baseline is fitted on, and what it comes to."""

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from edgeloop.rows import Row, TextInput
from edgeloop.runtime import RowOutput
from edgeloop.tasks import Answer
from finetune.evaluation.findings import judge
from finetune.evaluation.judged import HEADLINE, Judged

# One output per input, in their order, from a model that is loaded once.
Score = Callable[[Sequence[TextInput]], list[RowOutput]]


@dataclass(frozen=True)
class Material:
    """`frozen` runs the base as it is: `embedding` the unit vector of a text, (hidden,); `logits`
    the hidden states of its tokens, (tokens, hidden), with `offsets`. `train_states` and
    `validation_states` are its outputs for those rows; empty where no baseline reads them."""

    task: str
    labels: tuple[str, ...]
    train: Sequence[Row]
    validation: Sequence[Row]
    frozen: Score
    base_bytes: int
    train_states: Sequence[RowOutput] = ()
    validation_states: Sequence[RowOutput] = ()

    def membership(self, rows: Sequence[Row]) -> NDArray[np.bool_]:
        """Which row carries which label: (rows, labels)."""
        return np.array([[name in row.labels for name in self.labels] for row in rows], dtype=bool)


@dataclass(frozen=True)
class Fitted:
    """`judge` answers rows and says how good that was; `answer_one` is one text's way through it,
    which is timed; `settings` were chosen on the validation rows."""

    judge: Callable[[Sequence[Row]], Judged]
    answer_one: Callable[[Row], object]
    size_bytes: int
    settings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """A baseline: how it is fitted, and whether it runs the frozen base."""

    fit: Callable[[Material], Fitted]
    uses_encoder: bool


Answerer = Callable[[Sequence[Row]], list[Answer]]


def from_answers(
    task: str, answer: Answerer, size_bytes: int, settings: dict[str, float] | None = None
) -> Fitted:
    """A baseline that answers rows as the task's model does."""
    return Fitted(
        judge=lambda rows: judge(task, rows, answer(rows)),
        answer_one=lambda row: answer([row]),
        size_bytes=size_bytes,
        settings=settings or {},
    )


def choose(
    task: str, rows: Sequence[Row], candidates: Sequence[tuple[float, Answerer]]
) -> tuple[float, Answerer]:
    """The setting with the best headline figure on the validation rows, the earliest of equals."""
    headline = HEADLINE[task][0]
    return max(candidates, key=lambda c: judge(task, rows, c[1](rows)).figures[headline].value)


def stored_bytes(*parts: Any) -> int:
    """What the parts would take on a disk; nothing is written."""
    return sum(len(pickle.dumps(part)) for part in parts)


def word_weights() -> TfidfVectorizer:
    """TF-IDF of words and pairs of words; words of one letter count."""
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")


def embeddings(outputs: Sequence[RowOutput]) -> NDArray[np.float32]:
    """(rows, hidden)."""
    return np.stack([output.embedding for output in outputs])

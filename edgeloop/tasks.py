"""What a model's numbers mean, per task: the answer to a row, whether it is right, and how sure the
model is. One definition for training, gates, golden rows, drift and the server.

A new task is one class and one line in TASKS.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeloop.rows import Row, Span, TextInput
from edgeloop.runtime import RowOutput, best_of, softmax

OUTSIDE = "O"
MULTI_LABEL_THRESHOLD = 0.5
# Rows whose cosines with all others are held at a time.
BLOCK_ROWS = 256


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says of a row. `score` in [0, 1] is how sure it is of the whole answer."""

    labels: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    scores: tuple[float, ...] = ()
    score: float = 1.0

    @property
    def label(self) -> str:
        """The answer in one word, as `Row.label` has it; spans as "start:end:label"."""
        if self.spans:
            return "|".join(f"{s.start}:{s.end}:{s.label}" for s in sorted(self.spans))
        return "|".join(sorted(self.labels))


class Task(Protocol):
    """A task's semantics. `labels` are those of the training rows, sorted (manifest.labels)."""

    def labels(self, rows: Iterable[Row]) -> tuple[str, ...]:
        """What these rows teach: classes or entity types, sorted."""
        ...

    def width(self, labels: Sequence[str]) -> int:
        """The last dimension of the logits; 0 where the task has none."""
        ...

    def class_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        """What `probabilities` are the probabilities of."""
        ...

    def probabilities(self, output: RowOutput, labels: Sequence[str]) -> NDArray[np.float64]:
        """One distribution per row, (len(class_names),): what drift is measured on."""
        ...

    def answer(self, output: RowOutput, labels: Sequence[str]) -> Answer:
        """The answer to a row."""
        ...

    def read(self, output: RowOutput, labels: Sequence[str]) -> tuple[Answer, NDArray[np.float64]]:
        """`answer` and `probabilities` at once."""
        ...

    def truth(self, row: Row) -> Answer:
        """The answer that a person gave."""
        ...

    def inputs(self, rows: Sequence[Row]) -> list[TextInput]:
        """All that the model must read to be judged on `rows`, in the order that `right` takes."""
        ...

    def right(
        self, outputs: Sequence[RowOutput], rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.bool_]:
        """Which rows are answered rightly, (rows,); `outputs` are those of `inputs(rows)`."""
        ...

    def read_label(self, word: str) -> tuple[str, ...] | None:
        """The labels in `Row.label`'s one word; None where one word cannot say a row's truth."""
        ...


def is_right(answer: Answer, truth: Answer) -> bool:
    """Exactly the same labels and the same spans."""
    return set(answer.labels) == set(truth.labels) and set(answer.spans) == set(truth.spans)


class _OneInputPerRow:
    """What the tasks share that read and judge each row by itself."""

    def inputs(self, rows: Sequence[Row]) -> list[TextInput]:
        return [row.input for row in rows]

    def read(
        self: Task, output: RowOutput, labels: Sequence[str]
    ) -> tuple[Answer, NDArray[np.float64]]:
        return self.answer(output, labels), self.probabilities(output, labels)

    def right(
        self: Task, outputs: Sequence[RowOutput], rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.bool_]:
        return np.array(
            [
                is_right(self.answer(output, labels), self.truth(row))
                for output, row in zip(outputs, rows, strict=True)
            ],
            dtype=bool,
        )


class TextClassification(_OneInputPerRow):
    """One label per row; logits (classes,)."""

    def labels(self, rows: Iterable[Row]) -> tuple[str, ...]:
        return tuple(sorted({label for row in rows for label in row.labels}))

    def width(self, labels: Sequence[str]) -> int:
        return len(labels)

    def class_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return tuple(labels)

    def probabilities(self, output: RowOutput, labels: Sequence[str]) -> NDArray[np.float64]:
        return softmax(output.logits)

    def answer(self, output: RowOutput, labels: Sequence[str]) -> Answer:
        return _best(softmax(output.logits), labels)

    def read(self, output: RowOutput, labels: Sequence[str]) -> tuple[Answer, NDArray[np.float64]]:
        """One softmax for both: a server does this for every text."""
        probabilities = softmax(output.logits)
        return _best(probabilities, labels), probabilities

    def truth(self, row: Row) -> Answer:
        return Answer(labels=row.labels)

    def read_label(self, word: str) -> tuple[str, ...] | None:
        return (word,)


def _best(probabilities: NDArray[np.float64], labels: Sequence[str]) -> Answer:
    best = best_of(probabilities)
    score = float(probabilities[best])
    return Answer(labels=(labels[best],), scores=(score,), score=score)


class MultiLabelClassification(TextClassification):
    """Any number of labels per row; a sigmoid per class; logits (classes,)."""

    def class_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return (*labels, OUTSIDE)

    def probabilities(self, output: RowOutput, labels: Sequence[str]) -> NDArray[np.float64]:
        """Each label's probability and that of none of them, scaled to sum to 1."""
        each = sigmoid(output.logits)
        return _scaled(np.append(each, np.prod(1.0 - each)))

    def answer(self, output: RowOutput, labels: Sequence[str]) -> Answer:
        each = sigmoid(output.logits)
        chosen = [i for i, value in enumerate(each) if value >= MULTI_LABEL_THRESHOLD]
        return Answer(
            labels=tuple(labels[i] for i in chosen),
            scores=tuple(each[chosen].tolist()),
            score=float(np.prod(np.maximum(each, 1.0 - each))),
        )

    read = _OneInputPerRow.read

    def read_label(self, word: str) -> tuple[str, ...] | None:
        return tuple(label for label in word.split("|") if label)


class TokenClassification(_OneInputPerRow):
    """Entities in BIO: logits (tokens, 1 + 2 * labels), columns O, B-first, I-first, B-second, ...

    A token's offsets are its characters in the row's text; tokens of a second text and special
    tokens have none (start == end) and are outside.
    """

    def labels(self, rows: Iterable[Row]) -> tuple[str, ...]:
        return tuple(sorted({span.label for row in rows for span in row.spans}))

    def width(self, labels: Sequence[str]) -> int:
        return 1 + 2 * len(labels)

    def class_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return (OUTSIDE, *labels)

    def probabilities(self, output: RowOutput, labels: Sequence[str]) -> NDArray[np.float64]:
        """The highest probability of each entity type at any token, and that of no entity at all
        at the most entity-like token, scaled to sum to 1."""
        real = [i for i, (start, end) in enumerate(output.offsets) if end > start]
        if not real or not labels:
            return np.array([1.0] + [0.0] * len(labels))
        tokens = softmax(output.logits[real])  # (tokens, tags)
        types = (tokens[:, 1::2] + tokens[:, 2::2]).max(axis=0)  # (labels,)
        return _scaled(np.concatenate([[tokens[:, 0].min()], types]))

    def answer(self, output: RowOutput, labels: Sequence[str]) -> Answer:
        if not output.offsets:
            return Answer()
        tokens = softmax(output.logits)  # (tokens, tags)
        best = tokens.argmax(axis=1)
        sure = tokens.max(axis=1)
        spans, scores = [], []
        for first, last, label in entity_runs(best.tolist(), output.offsets):
            spans.append(Span(output.offsets[first][0], output.offsets[last][1], labels[label]))
            scores.append(float(sure[first : last + 1].mean()))
        real = [i for i, (start, end) in enumerate(output.offsets) if end > start]
        whole = float(sure[real].min()) if real else 1.0
        return Answer(spans=tuple(spans), scores=tuple(scores), score=whole)

    def truth(self, row: Row) -> Answer:
        return Answer(spans=row.spans)

    def read_label(self, word: str) -> tuple[str, ...] | None:
        return None


def tag_names(labels: Sequence[str]) -> list[str]:
    """The names of a tagger's columns: O, B-first, I-first, B-second, ..."""
    return [OUTSIDE, *(f"{part}-{label}" for label in labels for part in "BI")]


def entity_runs(
    tags: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int]]:
    """(first token, last token, label index) of every entity in BIO tag indices, by the rules of
    conlleval: an I that follows no entity of its type begins one."""
    runs: list[tuple[int, int, int]] = []
    open_type: int | None = None
    for position, (tag, (start, end)) in enumerate(zip(tags, offsets, strict=True)):
        if tag == 0 or end <= start:
            open_type = None
            continue
        kind, is_begin = (tag - 1) // 2, tag % 2 == 1
        if is_begin or kind != open_type:
            runs.append((position, position, kind))
        else:
            runs[-1] = (runs[-1][0], position, kind)
        open_type = kind
    return runs


class TextEmbedding:
    """Unit vectors; no labels and no logits. A row is a text with the text that belongs to it."""

    def labels(self, rows: Iterable[Row]) -> tuple[str, ...]:
        return ()

    def width(self, labels: Sequence[str]) -> int:
        return 0

    def class_names(self, labels: Sequence[str]) -> tuple[str, ...]:
        return ("embedding",)

    def probabilities(self, output: RowOutput, labels: Sequence[str]) -> NDArray[np.float64]:
        return np.ones(1)

    def answer(self, output: RowOutput, labels: Sequence[str]) -> Answer:
        return Answer()

    read = _OneInputPerRow.read

    def truth(self, row: Row) -> Answer:
        return Answer()

    def inputs(self, rows: Sequence[Row]) -> list[TextInput]:
        """The rows' texts, and after them the texts that belong to them."""
        return [*(row.text for row in rows), *(row.text_pair or "" for row in rows)]

    def right(
        self, outputs: Sequence[RowOutput], rows: Sequence[Row], labels: Sequence[str]
    ) -> NDArray[np.bool_]:
        """Is the row's own text strictly nearer to it than every different one of all `rows`?"""
        if not rows:
            return np.zeros(0, dtype=bool)
        vectors = np.stack([output.embedding for output in outputs])
        anchors, positives = vectors[: len(rows)], vectors[len(rows) :]
        number: dict[str | None, int] = {}
        texts = np.array([number.setdefault(row.text_pair, len(number)) for row in rows])
        return nearest_is_own(anchors, positives, texts)

    def read_label(self, word: str) -> tuple[str, ...] | None:
        return None


def nearest_is_own(
    anchors: NDArray[np.float32], positives: NDArray[np.float32], texts: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Unit vectors (rows, hidden) each, and which text each positive is, (rows,) -> (rows,)."""
    right = np.zeros(len(anchors), dtype=bool)
    for start in range(0, len(anchors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        cosines = anchors[block] @ positives.T  # (block, rows)
        own = cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))]
        cosines[texts[block, None] == texts] = -np.inf
        right[block] = own > cosines.max(axis=1)
    return right


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """To a sum of 1."""
    scaled: NDArray[np.float64] = values / values.sum()
    return scaled


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per-class probabilities, in float64; no overflow at any logit."""
    values = logits.astype(np.float64)
    result: NDArray[np.float64] = np.exp(-np.logaddexp(0.0, -values))
    return result


TASKS: dict[str, Task] = {
    "text-classification": TextClassification(),
    "multi-label-classification": MultiLabelClassification(),
    "token-classification": TokenClassification(),
    "text-embedding": TextEmbedding(),
}

"""Small tasks of every kind with rows, a small encoder that reads words (numpy, no torch), and a
run folder with them: what evaluation and baselines are tested on.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, Epoch, MergedModel, Parity
from edgeloop.rows import Row, Span, TextInput, write_rows
from edgeloop.rundir import RunDir, digest_entries, list_files
from edgeloop.runtime import RowOutput
from edgeloop.tasks import TASKS
from tests import tiny

HIDDEN = 48
NAMES = ["anna", "bruno", "carla", "dmitri", "elena", "farid"]
CITIES = ["lisbon", "oslo", "quito", "riga", "turin", "york"]


def word_vector(word: str) -> NDArray[np.float64]:
    """The same direction for the same word, (HIDDEN,)."""
    digest = hashlib.sha256(word.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).normal(size=HIDDEN)


def encode(inputs: Sequence[TextInput]) -> list[RowOutput]:
    """A bag of word vectors: `embedding` the unit mean, `logits` the vector of each word, between
    two special tokens."""
    outputs = []
    for text in inputs:
        first, second = (text, "") if isinstance(text, str) else text
        matches = list(re.finditer(r"\w+", first))
        words = [m.group().lower() for m in matches] + re.findall(r"\w+", second.lower())
        states = np.stack([word_vector(w) for w in ["[cls]", *words, "[sep]"]])
        mean = states.mean(axis=0)
        offsets = (
            (0, 0),
            *(m.span() for m in matches),
            *[(0, 0)] * (len(words) - len(matches) + 1),
        )
        outputs.append(
            RowOutput(
                states.astype(np.float32),
                (mean / np.linalg.norm(mean)).astype(np.float32),
                offsets,
            )
        )
    return outputs


def make_rows(task: str, count: int, seed: int = 0) -> list[Row]:
    """Rows that their words decide."""
    rng = np.random.default_rng(seed)
    make = {
        "text-classification": _one_label,
        "multi-label-classification": _labels,
        "token-classification": _spans,
        "text-embedding": _pair,
    }[task]
    return [make(rng, f"{task[:2]}{seed}-{i}") for i in range(count)]


def _one_label(rng: np.random.Generator, name: str) -> Row:
    label = str(rng.choice(tiny.LABELS))
    slices = (("channel", str(rng.choice(["mail", "phone"]))),)
    return Row(name, tiny.sentence(rng, label), (label,), slices=slices)


def _labels(rng: np.random.Generator, name: str) -> Row:
    labels = sorted(label for label in tiny.LABELS if rng.random() < 0.45)
    words = [str(rng.choice(tiny.WORDS[label])) for label in labels for _ in range(2)]
    return Row(name, " ".join([*words, *rng.choice(tiny.FILLER, 3)]), tuple(labels))


def _spans(rng: np.random.Generator, name: str) -> Row:
    text, spans = "", []
    for _ in range(int(rng.integers(4, 8))):
        kind = rng.choice(["", "", "name", "city"])
        word = str(rng.choice({"": tiny.FILLER, "name": NAMES, "city": CITIES}[str(kind)]))
        if kind:
            spans.append(Span(len(text), len(text) + len(word), str(kind)))
        text += word + " "
    return Row(name, text.strip(), spans=tuple(spans))


def _pair(rng: np.random.Generator, name: str) -> Row:
    words = [f"w{rng.integers(400)}" for _ in range(5)]
    other = [f"w{rng.integers(400)}" for _ in range(4)]
    kept = [str(word) for word in rng.permutation(words)[:2]]
    kept += [f"w{rng.integers(400)}"]
    return Row(name, " ".join(words), text_pair=" ".join(kept), negatives=(" ".join(other),))


def labels_of(task: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """What these rows teach."""
    return TASKS[task].labels(rows)


class Oracle:
    """Outputs of a model that knows the truth of its rows and errs on a share of them."""

    def __init__(self, task: str, rows: Sequence[Row], error_ratio: float = 0.0) -> None:
        self.task, self.labels = task, labels_of(task, rows)
        self.rows = {row.input if task != "text-embedding" else row.text: row for row in rows}
        self.error_ratio = error_ratio

    def __call__(self, inputs: Sequence[TextInput]) -> list[RowOutput]:
        return [
            self._output(text, output) for text, output in zip(inputs, encode(inputs), strict=True)
        ]

    def _output(self, text: TextInput, output: RowOutput) -> RowOutput:
        if self.task == "text-embedding":
            return output
        row = self.rows[text]
        digest = hashlib.sha256(str(text).encode()).digest()
        errs = int.from_bytes(digest[:4], "big") / 2**32 < self.error_ratio
        if self.task == "token-classification":
            tags = np.zeros((len(output.offsets), 1 + 2 * len(self.labels)), dtype=np.float32)
            for i, (start, end) in enumerate(output.offsets):
                label = next((s.label for s in row.spans if s.start == start and end > start), None)
                tags[i, 0 if label is None or errs else 1 + 2 * self.labels.index(label)] = 5.0
            return RowOutput(tags, output.embedding, output.offsets)
        on = np.array([label in row.labels for label in self.labels])
        logits = np.where(np.roll(on, 1) if errs else on, 3.0, -3.0)
        return RowOutput(logits.astype(np.float32), output.embedding, output.offsets)


def recipe_of(task: str, max_drop: float = 0.05) -> Recipe:
    """A recipe of which the stages read the task, the limits and the budget."""
    document = {
        "name": "tiny",
        "task": task,
        "base": "unused",
        "data": {"files": ["unused.csv"]},
        "compress": {"budget": {"max_accuracy_drop": max_drop}},
        "serve": {"max_tokens": 32},
    }
    return Recipe.model_validate_json(json.dumps(document))


def epochs(*losses: tuple[float, float, float]) -> tuple[Epoch, ...]:
    """From (training loss, validation loss, validation accuracy) of each."""
    return tuple(
        Epoch(
            epoch=number,
            train_loss=train,
            validation_loss=validation,
            validation_metric=accuracy,
            train_seconds=1.0,
            seconds=1.0,
        )
        for number, (train, validation, accuracy) in enumerate(losses, start=1)
    )


def make_run(
    root: Path, task: str, counts: dict[str, int]
) -> tuple[RunDir, Dataset, Adapter, MergedModel]:
    """A run folder with dataset/ and a merged/ that holds one small file."""
    splits = {
        name: make_rows(task, count, seed) for seed, (name, count) in enumerate(counts.items())
    }
    for name in ("dataset", "merged"):
        (root / name).mkdir(parents=True)
    for name, rows in splits.items():
        write_rows(root / "dataset" / f"{name}.jsonl", rows)
    (root / "merged" / "weights").write_bytes(b"w")
    files = list_files(root / "dataset")
    labels = labels_of(task, splits["train"])
    dataset = Dataset(
        inputs_digest="0" * 64,
        files=files,
        digest=digest_entries(files),
        labels=labels,
        rows=counts,
        sources=(),
        reference_is_test=True,
        warnings=(),
    )
    merged = MergedModel(
        inputs_digest="0" * 64,
        files=list_files(root / "merged"),
        base_digest="1" * 64,
        adapter_digest="0" * 64,
        dataset_digest=dataset.digest,
        labels=labels,
        adapter_tensors=0,
        merged_weights=0,
        copied_tensors=0,
        parity=Parity(rows=1, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=1e-4),
        proof="equal",
        qlora_gap=(),
    )
    return RunDir(root), dataset, make_adapter(dataset), merged


def make_adapter(dataset: Dataset) -> Adapter:
    """What training leaves behind."""
    return Adapter(
        inputs_digest="0" * 64,
        files=(),
        method="lora",
        metric="accuracy",
        base="tiny",
        base_digest="1" * 64,
        dataset_digest=dataset.digest,
        labels=dataset.labels,
        trainable_parameters=10,
        total_parameters=100,
        epochs=epochs((0.9, 0.8, 0.7), (0.4, 0.6, 0.8)),
        best_epoch=2,
        seed=0,
        seconds=12.5,
    )

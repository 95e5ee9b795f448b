"""Fine-tuning on a tiny BERT for any task and method: rows, dataset, and the records of a pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset
from edgeloop.rows import Row, Span, write_rows
from edgeloop.rundir import RunDir, digest_entries, list_files
from edgeloop.tasks import TASKS
from finetune import stage
from finetune.adapt import Inputs
from finetune.base import resolve_base
from finetune.encoder import quiet_transformers
from finetune.model import TaskModel
from tests import tiny

SPLITS = {"train": 48, "validation": 16, "reference": 8, "test": 16}


def rows_for(task: str, count: int, seed: int = 0) -> list[Row]:
    """Rows of the task made from `tiny.sentences`."""
    made = {
        "text-classification": _class_row,
        "multi-label-classification": _labels_row,
        "token-classification": _spans_row,
        "text-embedding": _pair_row,
    }
    return [made[task](i, *row) for i, row in enumerate(tiny.sentences(count, seed))]


def _class_row(number: int, text: str, label: str) -> Row:
    return Row(f"r{number}", text, (label,))


def _labels_row(number: int, text: str, label: str) -> Row:
    other = tiny.LABELS[number % len(tiny.LABELS)]
    longer = f"{text} {tiny.sentence(np.random.default_rng(number), other)}"
    return Row(f"r{number}", longer, tuple(sorted({label, other})))


def _spans_row(number: int, text: str, label: str) -> Row:
    spans, start = [], 0
    for word in text.split():
        kinds = [kind for kind, words in tiny.WORDS.items() if word in words]
        spans += [Span(start, start + len(word), kind) for kind in kinds]
        start += len(word) + 1
    return Row(f"r{number}", text, spans=tuple(spans))


def _pair_row(number: int, text: str, label: str) -> Row:
    return Row(f"r{number}", text, text_pair=tiny.sentence(np.random.default_rng(number), label))


def write_dataset(task: str, run: RunDir, rows: list[Row]) -> Dataset:
    """The dataset stage's folder and record for rows that are split already, in their order."""
    folder = run.folder("dataset")
    folder.mkdir(parents=True)
    start = 0
    for name, size in SPLITS.items():
        write_rows(folder / f"{name}.jsonl", rows[start : start + size])
        start += size
    files = list_files(folder)
    return Dataset(
        inputs_digest="0" * 64,
        files=files,
        digest=digest_entries(files),
        labels=TASKS[task].labels(rows[: SPLITS["train"]]),
        rows=SPLITS,
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


class Tuned:
    """A recipe, its dataset and the adapter that was trained on it."""

    def __init__(self, base: Path, root: Path, method: str, task: str, **settings: Any) -> None:
        training = {"num_train_epochs": 1, "per_device_train_batch_size": 8}
        document = {
            "name": "tiny",
            "task": task,
            "base": str(base),
            "data": {"files": ["rows.csv"]},
            "serve": {"max_tokens": settings.pop("max_tokens", 32)},
            "finetune": {"method": method, "training": training, **settings},
        }
        self.task = task
        self.recipe = Recipe.model_validate_json(json.dumps(document))
        self.run = RunDir(root)
        self.dataset = write_dataset(task, self.run, rows_for(task, sum(SPLITS.values())))
        self.said: list[str] = []
        self.adapter: Adapter = stage.train(self.recipe, self.dataset, self.run, self.said.append)

    @property
    def inputs(self) -> Inputs:
        """What training and merging read."""
        return Inputs(self.recipe, self.dataset, self.run, resolve_base(self.recipe.base))

    def restored(self) -> TaskModel:
        """The trained model, put together again from the adapter's folder."""
        with quiet_transformers():
            model = self.inputs.model()
            self.inputs.method.restore(model, self.run.folder("adapter"))
        model.eval()
        return model

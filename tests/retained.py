"""Recipes that retain, and a deployed model that a run may forget: its bundle lies in a run folder
beside the dataset that it was trained on.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeloop.bundle import GOLDEN, Bundle
from edgeloop.recipe import Recipe
from edgeloop.records import Dataset
from edgeloop.rows import Row, write_rows
from edgeloop.rundir import RECORD_NAME, digest_entries, list_files
from edgeloop.tasks import TASKS
from tests import altered, tiny


def make_recipe(
    base: str = "unused",
    data: list[str] | None = None,
    task: str = "text-classification",
    training: dict[str, Any] | None = None,
    **retention: Any,
) -> Recipe:
    """`retention`: keys of finetune.retention."""
    document = {
        "name": "tiny",
        "task": task,
        "base": base,
        "data": {"files": data or ["unused.csv"]},
        "finetune": {
            "lora": {"r": 4, "lora_alpha": 8},
            "training": training or {},
            "retention": retention,
        },
        "serve": {"max_tokens": 32},
    }
    return Recipe.model_validate_json(json.dumps(document))


def make_previous(root: Path, golden: list[Row], trained: list[Row]) -> Bundle:
    """A bundle that knows tiny.LABELS by their words, with these golden rows, in a run folder."""
    dataset = write_dataset(root / "dataset", {"train": trained})
    bundle = tiny.make_bundle(root / "bundle")
    lines = [
        {"id": r.id, "text": r.text, "label": r.label, "expected": r.label, "score": 1.0}
        for r in golden
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    bundle.file(GOLDEN).write_text(text, encoding="utf-8")
    parents = {**bundle.manifest.parents, "dataset": dataset.digest}
    return replace(altered.rewrite_manifest(bundle, parents=parents), path=root / "bundle")


def write_dataset(folder: Path, splits: dict[str, list[Row]]) -> Dataset:
    """A complete dataset stage."""
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        write_rows(folder / f"{name}.jsonl", rows)
    files = list_files(folder)
    record = Dataset(
        inputs_digest="0" * 64,
        files=files,
        digest=digest_entries(files),
        labels=TASKS["text-classification"].labels(splits["train"]),
        rows={name: len(rows) for name, rows in splits.items()},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )
    record.write(folder / RECORD_NAME)
    return record

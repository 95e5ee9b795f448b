"""A run folder as the stages before compress leave it: a tiny merged BERT of a task with random
weights, and rows that carry the answers which that model gives them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)

from compress.merged import load_merged
from edgeloop.recipe import Recipe, TaskName
from edgeloop.records import Dataset, MergedModel, Parity
from edgeloop.rows import Row, write_rows
from edgeloop.rundir import RunDir, digest_entries, list_files
from edgeloop.tasks import TASKS, tag_names
from tests import tiny

MAX_TOKENS = 32
VALIDATION_ROWS = 100
PLAIN: TaskName = "text-classification"
ARCHITECTURES: dict[TaskName, Callable[[BertConfig], Any]] = {
    "text-classification": BertForSequenceClassification,
    "multi-label-classification": BertForSequenceClassification,
    "token-classification": BertForTokenClassification,
    "text-embedding": BertModel,
}


@dataclass(frozen=True)
class MergedRun:
    """The run and the records of its two finished stages."""

    folder: RunDir
    dataset: Dataset
    merged: MergedModel


def labels_of(task: TaskName) -> tuple[str, ...]:
    """What the merge of this task records."""
    return () if task == "text-embedding" else tiny.LABELS


def make_merged(base: Path, folder: Path, seed: int = 0, task: TaskName = PLAIN) -> MergedModel:
    """A model over tiny.LABELS with wide random weights, so that its answers differ by text."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    names = tag_names(tiny.LABELS) if task == "token-classification" else tiny.LABELS
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.2,
        id2label=dict(enumerate(names)),
    )
    ARCHITECTURES[task](config).save_pretrained(folder)
    if task == "text-embedding":
        write_pooling(folder)
    return MergedModel(
        inputs_digest="0" * 64,
        files=list_files(folder),
        base_digest="0" * 64,
        adapter_digest="0" * 64,
        dataset_digest="0" * 64,
        labels=labels_of(task),
        adapter_tensors=0,
        merged_weights=0,
        copied_tensors=0,
        parity=Parity(rows=1, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=1e-4),
        proof="",
        qlora_gap=(),
    )


def write_pooling(folder: Path, mode: str = "mean_tokens") -> None:
    """The files beside an encoder that sentence-transformers reads."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    pooling = {"word_embedding_dimension": 64, f"pooling_mode_{mode}": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def make_run(
    base: Path,
    root: Path,
    test_rows: int = 120,
    reference_rows: int = 180,
    task: TaskName = PLAIN,
    text_pair: bool = False,
    train_rows: int = 40,
) -> MergedRun:
    """dataset/ and merged/ below `root`."""
    merged = make_merged(base, root / "merged", task=task)
    judged = test_rows + reference_rows
    rows = own_answers(
        root / "merged", tiny.rows(task, judged + VALIDATION_ROWS, 7, text_pair), task
    )
    train = [replace(row, id=f"t{row.id}") for row in tiny.rows(task, train_rows, 8, text_pair)]
    splits = {
        "train": train,
        "validation": rows[judged:],
        "reference": rows[test_rows:judged],
        "test": rows[:test_rows],
    }
    return MergedRun(RunDir(root), _write_dataset(root / "dataset", splits, task), merged)


def own_answers(folder: Path, rows: list[Row], task: TaskName) -> list[Row]:
    """The rows with what the merged model answers as their truth; vectors keep their pairs."""
    if task == "text-embedding":
        return rows
    merged = load_merged(folder, labels_of(task), task)
    encoded = [merged.encode(row.input, MAX_TOKENS) for row in rows]
    answers = [
        TASKS[task].answer(output, labels_of(task))
        for output in merged.answer(encoded, lambda done: None)
    ]
    return [
        replace(row, labels=answer.labels, spans=answer.spans)
        for row, answer in zip(rows, answers, strict=True)
    ]


def _write_dataset(folder: Path, splits: dict[str, list[Row]], task: TaskName) -> Dataset:
    folder.mkdir()
    for name, rows in splits.items():
        write_rows(folder / f"{name}.jsonl", rows)
    files = list_files(folder)
    return Dataset(
        inputs_digest="0" * 64,
        files=files,
        digest=digest_entries(files),
        labels=labels_of(task),
        rows={name: len(rows) for name, rows in splits.items()},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


def make_recipe(max_tokens: int = MAX_TOKENS, task: TaskName = PLAIN, **compress: object) -> Recipe:
    """A recipe of which compress reads `task`, `compress` and `serve.max_tokens`."""
    document = {
        "name": "tiny",
        "task": task,
        "base": "unused",
        "data": {"files": ["unused.csv"]},
        "compress": compress,
        "serve": {"max_tokens": max_tokens},
    }
    return Recipe.model_validate_json(json.dumps(document))

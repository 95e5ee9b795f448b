"""A run folder as the stages before compress leave it: a tiny merged BERT classifier with random
weights, and rows that carry the label which that classifier gives them.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

from edgeloop.recipe import Recipe
from edgeloop.records import SPLITS, Dataset, MergedModel, Parity
from edgeloop.rundir import RunDir, digest_entries, list_files
from tests import tiny

MAX_TOKENS = 32


@dataclass(frozen=True)
class MergedRun:
    """The run and the records of its two finished stages."""

    folder: RunDir
    dataset: Dataset
    merged: MergedModel


def make_merged(base: Path, folder: Path, seed: int = 0) -> MergedModel:
    """A classifier over tiny.LABELS with wide random weights, so that its logits differ by text."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.2,
        id2label=dict(enumerate(tiny.LABELS)),
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return MergedModel(
        inputs_digest="0" * 64,
        files=list_files(folder),
        base_digest="0" * 64,
        adapter_digest="0" * 64,
        dataset_digest="0" * 64,
        labels=tiny.LABELS,
        adapter_tensors=0,
        merged_weights=0,
        copied_tensors=0,
        parity=Parity(rows=1, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=1e-4),
        proof="",
        qlora_gap=(),
    )


def make_run(base: Path, root: Path, test_rows: int = 120, reference_rows: int = 180) -> MergedRun:
    """dataset/ and merged/ below `root`."""
    merged = make_merged(base, root / "merged")
    texts = [text for text, _ in tiny.sentences(test_rows + reference_rows, seed=7)]
    labels = _own_answers(root / "merged", texts)
    rows = [
        {"id": f"r{i}", "text": text, "label": label}
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    splits = {name: rows[:1] for name in SPLITS}
    splits |= {"test": rows[:test_rows], "reference": rows[test_rows:], "train": _training_rows()}
    return MergedRun(RunDir(root), _write_dataset(root / "dataset", splits), merged)


def _training_rows() -> list[dict[str, str]]:
    return [
        {"id": f"t{i}", "text": text, "label": label}
        for i, (text, label) in enumerate(tiny.sentences(40, seed=8))
    ]


def _own_answers(folder: Path, texts: list[str]) -> list[str]:
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answers = []
    with torch.inference_mode():
        for text in texts:
            logits = model(**tokenizer(text, return_tensors="pt")).logits.numpy()
            answers.append(tiny.LABELS[int(np.argmax(logits))])
    return answers


def _write_dataset(folder: Path, splits: dict[str, list[dict[str, str]]]) -> Dataset:
    folder.mkdir()
    for name, rows in splits.items():
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    files = list_files(folder)
    return Dataset(
        inputs_digest="0" * 64,
        files=files,
        digest=digest_entries(files),
        labels=tiny.LABELS,
        rows={name: len(rows) for name, rows in splits.items()},
        sources=(),
        reference_is_test=False,
        warnings=(),
    )


def make_recipe(max_tokens: int = MAX_TOKENS, **compress: object) -> Recipe:
    """A recipe of which compress reads `compress` and `serve.max_tokens`."""
    document = {
        "name": "tiny",
        "base": "unused",
        "data": {"files": ["unused.csv"]},
        "compress": compress,
        "serve": {"max_tokens": max_tokens},
    }
    return Recipe.model_validate_json(json.dumps(document))

"""Tiny linear models and cascades in folders, trained and built by the real code."""

from pathlib import Path

import numpy as np

from compress.cascade import Choosing, build_cascade
from compress.linear import train_linear
from compress.threshold import Trial
from edgeloop.cascade import CascadeSettings
from edgeloop.kinds import LINEAR, MODEL, TOKENIZER
from edgeloop.linear import LinearArrays
from edgeloop.rows import Row
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from tests import tiny

MAX_TOKENS = 64
TASK = "text-classification"


def open_onnx(folder: Path) -> OnnxModel:
    return OnnxModel(folder / MODEL, folder / TOKENIZER, MAX_TOKENS)


def train(folder: Path, task: str = TASK, rows: list[Row] | None = None) -> LinearArrays:
    """A linear model taught by the tiny encoder of the task that lies in `folder`."""
    chosen = tiny.rows(task, 200, seed=1) if rows is None else rows
    teacher = open_onnx(folder)
    logits = np.stack([output.logits for output in teacher.score([r.input for r in chosen])])
    more = [text for text, _ in tiny.sentences(50, seed=2)]
    unlabelled = np.stack([output.logits for output in teacher.score(more)])
    return train_linear(
        chosen, logits, more, unlabelled, task, tiny.LABELS, seed=0, max_tokens=MAX_TOKENS
    )


def make_linear(folder: Path, task: str = TASK, text_pair: bool = False) -> None:
    """linear.npz in `folder`."""
    teacher = folder.parent / f"{folder.name}-teacher"
    tiny.make_model(teacher, task=task, text_pair=text_pair)
    folder.mkdir(parents=True, exist_ok=True)
    rows = tiny.rows(task, 200, seed=1, text_pair=text_pair)
    train(teacher, task, rows).save(folder / LINEAR)


def choosing(second: Path, task: str = TASK, rows: int = 400) -> Choosing:
    """Rows to choose on, with the second stage itself as the reference."""
    chosen = tiny.rows(task, rows, seed=3)
    return Choosing(
        rows=chosen,
        reference=open_onnx(second).score(TASKS[task].inputs(chosen)),
        task=task,
        labels=tiny.LABELS,
        max_tokens=MAX_TOKENS,
        trial=Trial(margin=0.05, confidence=0.95, rows=400),
    )


def make_cascade(folder: Path, task: str = TASK, first: str = "linear") -> CascadeSettings:
    """A cascade of a tiny linear model, or of another encoder, and a tiny encoder in `folder`."""
    small, large = folder.parent / "small", folder.parent / "large"
    tiny.make_model(large, task=task)
    if first == "linear":
        make_linear(small, task)
    else:
        tiny.make_model(small, seed=7, task=task)
    folder.mkdir(parents=True)
    return build_cascade(small, large, choosing(large, task), folder)

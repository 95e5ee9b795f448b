"""What the candidates are made of, by the recipe's kind. A new one is a line here; a new step is
one file and a line in STEPS.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from compress.quantize.dynamic import dynamic_int8
from compress.quantize.half import half_precision_on_cuda
from compress.quantize.mixed import mixed_int8
from compress.quantize.nbits import weight_only_4, weight_only_8
from compress.quantize.static import (
    static_int8_entropy,
    static_int8_minmax,
    static_int8_percentile,
)
from compress.source import Source, Step
from compress.trim import trim_vocabulary
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.tasks import TASKS

MERGED = "merged"
EVERY_TASK = frozenset(TASKS)
CLASSIFYING = frozenset({"text-classification", "multi-label-classification"})


def keep(source: Source, folder: Path) -> None:
    """The source as it is."""
    shutil.copyfile(source.model, folder / MODEL)
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)


STEPS: dict[str, Step] = {
    "keep": keep,
    "trim": trim_vocabulary,
    "int8": dynamic_int8,
    "int8-static-minmax": static_int8_minmax,
    "int8-static-percentile": static_int8_percentile,
    "int8-static-entropy": static_int8_entropy,
    "int8-mixed": mixed_int8,
    "fp16": half_precision_on_cuda,
    "w8": weight_only_8,
    "w4": weight_only_4,
}


@dataclass(frozen=True)
class Encoder:
    """An exported fp32 model by its name (MERGED or a student), and the steps that follow."""

    source: str
    steps: tuple[str, ...]
    tasks: Collection[str] = EVERY_TASK


@dataclass(frozen=True)
class Linear:
    """The linear model over n-grams."""

    tasks: Collection[str] = CLASSIFYING


@dataclass(frozen=True)
class Cascade:
    """Two candidates by their kinds: the first answers where it is sure, the second the rest."""

    first: str
    second: str
    tasks: Collection[str] = CLASSIFYING


Plan = Encoder | Linear | Cascade
# A static student has no context, which a tagger needs.
WITHOUT_CONTEXT = EVERY_TASK - {"token-classification"}

CANDIDATES: dict[str, Plan] = {
    "onnx-fp32": Encoder(MERGED, ("keep",)),
    "onnx-int8": Encoder(MERGED, ("int8",)),
    "onnx-int8-static-minmax": Encoder(MERGED, ("int8-static-minmax",)),
    "onnx-int8-static-percentile": Encoder(MERGED, ("int8-static-percentile",)),
    "onnx-int8-static-entropy": Encoder(MERGED, ("int8-static-entropy",)),
    "onnx-int8-mixed": Encoder(MERGED, ("int8-mixed",)),
    "onnx-fp16": Encoder(MERGED, ("fp16",)),
    "onnx-w8": Encoder(MERGED, ("w8",)),
    "onnx-w4": Encoder(MERGED, ("w4",)),
    "trimmed-int8": Encoder(MERGED, ("trim", "int8")),
    "trimmed-w4": Encoder(MERGED, ("trim", "w4")),
    "student-half": Encoder("student-half", ("keep",)),
    "student-half-int8": Encoder("student-half", ("int8",)),
    "student-third": Encoder("student-third", ("keep",)),
    "student-third-int8": Encoder("student-third", ("int8",)),
    "student-third-trimmed-int8": Encoder("student-third", ("trim", "int8")),
    "student-narrow": Encoder("student-narrow", ("keep",)),
    "student-narrow-int8": Encoder("student-narrow", ("int8",)),
    "pruned": Encoder("pruned", ("keep",)),
    "pruned-int8": Encoder("pruned", ("int8",)),
    "static-embedding": Encoder("static", ("keep",), WITHOUT_CONTEXT),
    "static-embedding-int8": Encoder("static", ("int8",), WITHOUT_CONTEXT),
    "linear-ngrams": Linear(),
    "cascade-linear-int8": Cascade("linear-ngrams", "onnx-int8"),
    "cascade-linear-trimmed-int8": Cascade("linear-ngrams", "trimmed-int8"),
    "cascade-static-int8": Cascade("static-embedding", "onnx-int8"),
}


def source_of(kind: str) -> str | None:
    """The exported model that a candidate comes of, of a cascade its second stage's; None where it
    comes of none."""
    plan = CANDIDATES[kind]
    if isinstance(plan, Cascade):
        return source_of(plan.second)
    return plan.source if isinstance(plan, Encoder) else None


def of_task(task: str) -> list[str]:
    """The kinds that `auto` proposes."""
    return [kind for kind, plan in CANDIDATES.items() if task in plan.tasks]

"""What the candidates are made of, by the recipe's kind: a source, then steps one after another."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from compress.quantize.dynamic import dynamic_int8
from compress.source import Source, Step
from edgeloop.bundle import MODEL, TOKENIZER

MERGED = "merged"


def keep(source: Source, folder: Path) -> None:
    """The source as it is."""
    shutil.copyfile(source.model, folder / MODEL)
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)


STEPS: dict[str, Step] = {
    "keep": keep,
    "int8": dynamic_int8,
}


@dataclass(frozen=True)
class Plan:
    """An exported fp32 model by its name, and the names of the steps that follow."""

    source: str
    steps: tuple[str, ...]


CANDIDATES: dict[str, Plan] = {
    "onnx-fp32": Plan(MERGED, ("keep",)),
    "onnx-int8": Plan(MERGED, ("int8",)),
}

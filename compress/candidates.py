"""What the exported fp32 model is turned into, by the recipe's candidate kind."""

import shutil
from pathlib import Path

from compress.quantize.dynamic import dynamic_int8
from compress.source import Source, Step
from edgeloop.bundle import MODEL, TOKENIZER


def keep_fp32(source: Source, folder: Path) -> None:
    """The model as it was exported."""
    shutil.copyfile(source.model, folder / MODEL)
    shutil.copyfile(source.tokenizer, folder / TOKENIZER)


CANDIDATES: dict[str, Step] = {
    "onnx-fp32": keep_fp32,
    "onnx-int8": dynamic_int8,
}

"""Any kind of model, opened from its folder: by the server, by the measurement of a candidate, by
the gates and by the reference's scoring, so that all of them mean the same thing.

A new kind is one class, one line in OPENERS and one in edgeloop.kinds.KINDS.
"""

from collections.abc import Callable
from pathlib import Path

from edgeloop.cascade import CascadeModel, CascadeSettings
from edgeloop.kinds import (
    CASCADE,
    FIRST_LINEAR,
    FIRST_ONNX,
    FIRST_TOKENIZER,
    LINEAR,
    MODEL,
    TOKENIZER,
    kind_of,
)
from edgeloop.linear import LinearModel
from edgeloop.runtime import Model as Model
from edgeloop.runtime import OnnxModel


def open_model(folder: Path, max_tokens: int, threads: int = 1) -> Model:
    """Load the model that lies in a folder (edgeloop.kinds). `threads` per answer.

    Raises EngineError where there is none or it does not load.
    """
    return OPENERS[kind_of(folder).engine](folder, max_tokens, threads)


def _open_onnx(folder: Path, max_tokens: int, threads: int) -> Model:
    return OnnxModel(folder / MODEL, folder / TOKENIZER, max_tokens, threads)


def _open_linear(folder: Path, max_tokens: int, threads: int) -> Model:
    """One thread whatever is asked for: an answer is too short to share."""
    return LinearModel(folder / LINEAR, max_tokens)


def _open_cascade(folder: Path, max_tokens: int, threads: int) -> Model:
    settings = CascadeSettings.open(folder / CASCADE)
    second = _open_onnx(folder, max_tokens, threads)
    if settings.first == "linear":
        return CascadeModel(LinearModel(folder / FIRST_LINEAR, max_tokens), second, settings)
    own = folder / FIRST_TOKENIZER
    tokenizer = own if own.is_file() else folder / TOKENIZER
    first = OnnxModel(folder / FIRST_ONNX, tokenizer, max_tokens, threads)
    return CascadeModel(first, second, settings)


OPENERS: dict[str, Callable[[Path, int, int], Model]] = {
    "onnx": _open_onnx,
    "linear": _open_linear,
    "cascade": _open_cascade,
}

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
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, OnnxModel
from edgeloop.runtime import Model as Model

Begin = Callable[[TextInput, bool], Answered | Callable[[], Answered]]


def open_model(folder: Path, max_tokens: int, threads: int = 1) -> Model:
    """Load the model that lies in a folder (edgeloop.kinds). `threads` per answer.

    Raises EngineError where there is none or it does not load.
    """
    return OPENERS[kind_of(folder).engine](folder, max_tokens, threads)


def begin_of(model: Model) -> Begin | None:
    """How to ask a model that answers in less time than it takes to hand the text to another
    thread, or begins to: what it returns where it is not sure goes on with the text. None for the
    others."""
    if isinstance(model, LinearModel):
        return model.answer
    if isinstance(model, CascadeModel) and isinstance(model.first, LinearModel):
        return model.begin
    return None


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

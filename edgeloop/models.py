"""Any kind of model, opened from its folder: by the server, by the measurement of a candidate, by
the gates and by the reference's scoring, so that all of them mean the same thing.

A new kind is one class, one line in OPENERS and one in edgeloop.kinds.KINDS.
"""

from collections.abc import Callable
from pathlib import Path

from edgeloop.cascade import CascadeModel, CascadeSettings, Finish, FirstStage
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

Begin = Callable[[TextInput, bool], Answered | Finish]


def open_model(folder: Path, max_tokens: int, threads: int = 1) -> Model:
    """Load the model that lies in a folder (edgeloop.kinds). `threads` per answer.

    Raises EngineError where there is none or it does not load.
    """
    return OPENERS[kind_of(folder).engine](folder, max_tokens, threads)


def begin_of(model: Model) -> Begin | None:
    """How to ask a model that answers in less time than it takes to hand the text to another
    thread, or begins to: what it returns where it is not sure makes the answer out of that of
    rest_of(model). None for the others."""
    if isinstance(model, LinearModel):
        return model.answer
    if isinstance(model, CascadeModel) and isinstance(model.first, LinearModel):
        return model.begin
    return None


def rest_of(model: Model) -> Model:
    """What answers the texts that begin_of(model) was not sure of."""
    return model.second if isinstance(model, CascadeModel) else model


def open_begin(folder: Path, max_tokens: int) -> Begin | None:
    """begin_of the model that lies in a folder, without loading its rest.

    Raises EngineError where there is none or it does not load.
    """
    kind = kind_of(folder)
    if kind.engine == "linear":
        return begin_of(_open_linear(folder, max_tokens, threads=1))
    if kind.engine != "cascade":
        return None
    settings = CascadeSettings.open(folder / CASCADE)
    if settings.first != "linear":
        return None
    return FirstStage(LinearModel(folder / FIRST_LINEAR, max_tokens), settings).begin


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

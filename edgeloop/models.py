"""Any kind of model, opened from its folder: by the server, by the measurement of a candidate, by
the gates and by the reference's scoring, so that all of them mean the same thing.

A new kind is one class, one line in OPENERS and one in edgeloop.kinds.KINDS.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from edgeloop.kinds import MODEL, TOKENIZER, kind_of
from edgeloop.rows import TextInput
from edgeloop.runtime import Answered, OnnxModel, RowOutput


class Model(Protocol):
    """What answers texts and pairs, each alone. Thread-safe."""

    def answer(self, text: TextInput, truncate: bool = True) -> Answered:
        """The answer to one text or pair. What is longer than the model's most tokens is cut.

        Raises TextTooLong, before any inference, where it would be and `truncate` is false;
        EngineError where the model cannot answer.
        """
        ...

    def score(self, texts: Sequence[TextInput]) -> list[RowOutput]:
        """One text at a time, so that no answer depends on the company it was scored in."""
        ...


def open_model(folder: Path, max_tokens: int, threads: int = 1) -> Model:
    """Load the model that lies in a folder (edgeloop.kinds). `threads` per answer.

    Raises EngineError where there is none or it does not load.
    """
    return OPENERS[kind_of(folder).engine](folder, max_tokens, threads)


def _open_onnx(folder: Path, max_tokens: int, threads: int) -> Model:
    return OnnxModel(folder / MODEL, folder / TOKENIZER, max_tokens, threads)


OPENERS: dict[str, Callable[[Path, int, int], Model]] = {"onnx": _open_onnx}

"""What kinds of model there are, told by the files that lie in a folder; no other thing says it.

    onnx      model.onnx  tokenizer.json
    linear    linear.npz
    cascade   cascade.json  first.npz or first.onnx (first-tokenizer.json where it differs)
              model.onnx  tokenizer.json

Everything else that lies there is no part of the model.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeloop.errors import EngineError

MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
LINEAR = "linear.npz"
CASCADE = "cascade.json"
FIRST_LINEAR = "first.npz"
FIRST_ONNX = "first.onnx"
FIRST_TOKENIZER = "first-tokenizer.json"

Engine = Literal["onnx", "linear", "cascade"]


@dataclass(frozen=True)
class Kind:
    """The files that make up a model of this engine, and those that it may have besides."""

    engine: Engine
    files: tuple[str, ...]
    optional: tuple[str, ...] = ()


# A folder is of the first kind all of whose files lie in it.
KINDS = (
    Kind("cascade", (CASCADE, FIRST_LINEAR, MODEL, TOKENIZER)),
    Kind("cascade", (CASCADE, FIRST_ONNX, MODEL, TOKENIZER), (FIRST_TOKENIZER,)),
    Kind("linear", (LINEAR,)),
    Kind("onnx", (MODEL, TOKENIZER)),
)


def find_kind(names: Collection[str]) -> Kind | None:
    """The kind of model that these files make up; None where they make up none."""
    return next((kind for kind in KINDS if set(kind.files) <= set(names)), None)


def lacking(engine: str, names: Collection[str]) -> list[str]:
    """The files of this engine that are not among `names`, by the kind of it that lacks fewest;
    as "one or other" where each of two kinds lacks one."""
    missing = [[n for n in k.files if n not in names] for k in KINDS if k.engine == engine]
    fewest = min(missing, key=len)
    alike = dict.fromkeys(name for found in missing if len(found) == 1 for name in found)
    return [" or ".join(alike)] if len(fewest) == 1 else fewest


def kind_of(folder: Path) -> Kind:
    """The kind of model that lies in a folder. Raises EngineError where none does."""
    found = find_kind([path.name for path in folder.glob("*") if path.is_file()])
    if found is None:
        known = "; ".join(f"{kind.engine}: {', '.join(kind.files)}" for kind in KINDS)
        raise EngineError(f"{folder}: no whole model lies here ({known}); run the recipe again")
    return found


def model_files(folder: Path) -> tuple[str, ...]:
    """The files that make up the model in a folder: they ship, and they count for its size.

    Raises EngineError where there is no model.
    """
    kind = kind_of(folder)
    return kind.files + tuple(name for name in kind.optional if (folder / name).is_file())


def model_bytes(folder: Path) -> int:
    """The size of the model in a folder. Raises EngineError where there is none."""
    return sum((folder / name).stat().st_size for name in model_files(folder))

"""A Hugging Face folder that edgeloop did not train, taken in as a merged model: copied, so that
what is compressed cannot change meanwhile, and recorded as given: nothing proves its origin.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from compress.merged import load_merged, quiet
from edgeloop.bundle import TOKENIZER
from edgeloop.errors import ExportError
from edgeloop.records import MergedModel, Parity
from edgeloop.rundir import RunDir, list_files

STAGE = "merged"
CONFIG = "config.json"
GIVEN = "given: a folder that edgeloop did not train"
# Pickles run code when they are read, and hidden files are the hub client's own.
LEFT_OUT = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx")


def model_labels(folder: Path, task: str) -> tuple[str, ...]:
    """The model's labels in the order of its outputs, of a tagger its entity types.

    Raises ExportError where config.json is missing, or names none or not those of the task.
    """
    config = _config(folder)
    named = config.get("id2label") or {}
    try:
        names = [named[key] for key in sorted(named, key=int)]
    except (TypeError, ValueError):
        raise ExportError(f"{folder / CONFIG}: id2label is {named!r}, not names by index") from None
    if task == "text-embedding":
        return ()
    if task == "token-classification":
        names = list(dict.fromkeys(name.partition("-")[2] for name in names if "-" in name))
    if not names:
        raise ExportError(
            f"{folder / CONFIG}: id2label names no classes; a model of task {task} has them"
        )
    return tuple(names)


def _config(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / CONFIG).read_bytes())
    except OSError:
        raise ExportError(
            f"{folder}: has no {CONFIG} that can be read; name a folder that transformers' "
            "save_pretrained wrote"
        ) from None
    except ValueError as problem:
        raise ExportError(f"{folder / CONFIG}: is not JSON ({problem})") from None
    if not isinstance(document, dict):
        raise ExportError(f"{folder / CONFIG}: is not an object")
    return document


def take(folder: Path, task: str, dataset_digest: str, run: RunDir) -> MergedModel:
    """Copy the folder into merged/ of the run. Raises ExportError where it is no model of the task
    that can be exported."""
    labels = model_labels(folder, task)
    files = list_files(folder)
    depends_on = {"given": [(file.path, file.sha256) for file in files], "task": task}

    def work(target: Path, inputs_digest: str) -> MergedModel:
        shutil.copytree(folder, target, dirs_exist_ok=True, ignore=_left_out)
        _check_weights(folder, target)
        if not (target / TOKENIZER).exists():
            _write_tokenizer(folder, target)
        load_merged(target, labels, task)
        return MergedModel(
            inputs_digest=inputs_digest,
            files=list_files(target),
            base_digest="",
            adapter_digest="",
            dataset_digest=dataset_digest,
            labels=labels,
            adapter_tensors=0,
            merged_weights=0,
            copied_tensors=0,
            parity=Parity(
                rows=0, max_abs_difference=0.0, argmax_agreement_ratio=1.0, tolerance=0.0
            ),
            proof=GIVEN,
            qlora_gap=(),
        )

    return run.run_stage(STAGE, MergedModel, depends_on, work)


def _left_out(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(".") or name.endswith(LEFT_OUT)]


def _check_weights(folder: Path, target: Path) -> None:
    if any(target.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.glob("*") if path.name.endswith(LEFT_OUT))
    hint = f"{', '.join(pickled)} is not read, since pickles run code; " if pickled else ""
    raise ExportError(
        f"{folder}: has no weights in safetensors; {hint}save the model again with "
        "save_pretrained(folder, safe_serialization=True)"
    )


def _write_tokenizer(folder: Path, target: Path) -> None:
    """tokenizer.json from the older files of a tokenizer."""
    try:
        with quiet():
            AutoTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(target)
    except Exception as problem:  # transformers raises types of its own
        said = " ".join(str(problem).split())
        raise ExportError(f"{folder}: its tokenizer does not load ({said})") from None
    if not (target / TOKENIZER).exists():
        raise ExportError(
            f"{folder}: its tokenizer has no fast form, which an edge box needs; save it with a "
            "tokenizer.json"
        )

"""What a method of adapting an encoder must be able to do, and what several of them share."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from transformers import PreTrainedModel

from edgeloop.errors import MergeError
from edgeloop.recipe import Finetune
from edgeloop.rundir import write_atomic
from finetune.encoder import load_encoder
from finetune.model import TaskModel

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
# PEFT's name for the module that it wraps.
PREFIX = "base_model.model."

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Merged:
    """The encoder's tensors: `summed` of them were changed by the adapter, `copied` are the base's;
    `adapter_tensors` were used, each exactly once. `config`: what changes in the base's config."""

    tensors: dict[str, torch.Tensor]
    adapter_tensors: int
    summed: int
    copied: int
    config: dict[str, Any] = field(default_factory=dict)


class Method(Protocol):
    """One way to adapt an encoder. The head is trained, saved and merged by the stage itself."""

    # None, or why the result cannot be merged into one model and what to use instead.
    unmergeable: str | None

    def load_base(self, folder: Path, config: Any, settings: Finetune) -> PreTrainedModel:
        """The base encoder as it is trained on, fp32 where nothing else is the point."""
        ...

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        """Make of the model what is trained, in place; afterwards exactly the parameters that are
        trained require gradients.

        Raises TrainingError where the settings do not fit the architecture.
        """
        ...

    def save(self, model: TaskModel, folder: Path) -> None:
        """Write what was trained, without the head; the same bytes for the same weights."""
        ...

    def restore(self, model: TaskModel, folder: Path) -> None:
        """Put what `save` wrote on a fresh model, in place, to answer with."""
        ...

    def merge_bases(
        self, folder: Path, config: Any, settings: Finetune
    ) -> dict[str, PreTrainedModel]:
        """The bases that the adapter may be merged into, in the dtype that the base is stored in,
        each by a name for people. The first is what the adapter was trained on."""
        ...

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        """The tensors of base and adapter in one, in the base's dtype.

        Raises MergeError naming every adapter tensor that is missing, left over or misshapen.
        """
        ...


class OnStoredBase:
    """What all methods but qlora do with the base: train on it in fp32, merge into it as stored."""

    unmergeable: str | None = None

    def load_base(self, folder: Path, config: Any, settings: Finetune) -> PreTrainedModel:
        """See Method."""
        return load_encoder(folder, config, torch.float32)

    def merge_bases(
        self, folder: Path, config: Any, settings: Finetune
    ) -> dict[str, PreTrainedModel]:
        """See Method."""
        base = load_encoder(folder, config, "auto")
        return {f"the {str(base.dtype).removeprefix('torch.')} base": base}


class PeftMethod(OnStoredBase):
    """A method whose modules and files are PEFT's."""

    def wrap(self, model: TaskModel, make_config: Callable[[], PeftConfig], base_name: str) -> None:
        """Put PEFT's modules on the encoder. PEFT shortens the names in the config that it is
        given, and warns where the base's name is not the folder that it was loaded from: it gets
        one of its own, and the one to be saved is kept as it was asked for."""
        as_asked = make_config()
        as_asked.base_model_name_or_path = base_name
        model.encoder = get_peft_model(model.encoder, make_config())
        model.encoder.edgeloop_config = as_asked

    def save(self, model: TaskModel, folder: Path) -> None:
        """See Method."""
        save_peft(model, model.encoder.edgeloop_config, folder)

    def restore(self, model: TaskModel, folder: Path) -> None:
        """See Method."""
        restore_peft(model, folder)


def train_only_head(model: TaskModel) -> None:
    """Freeze the encoder."""
    model.encoder.requires_grad_(False)


def save_peft(model: TaskModel, config: PeftConfig, folder: Path) -> None:
    """PEFT's two files, the same bytes for the same adapter."""
    save_config(config, folder)
    state = get_peft_model_state_dict(model.encoder, save_embedding_layers=False)
    save_tensors(state, folder / ADAPTER_WEIGHTS)


def save_config(config: PeftConfig, folder: Path) -> None:
    """adapter_config.json of a trained adapter, sorted."""
    config.inference_mode = True
    document = {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }
    write_document(document, folder)


def write_document(document: Mapping[str, Any], folder: Path) -> None:
    """adapter_config.json, the same bytes for the same content."""
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    write_atomic(folder / ADAPTER_CONFIG, text.encode())


def restore_peft(model: TaskModel, folder: Path) -> None:
    """Load an adapter of PEFT's onto the encoder."""
    model.encoder = PeftModel.from_pretrained(model.encoder, folder)


def save_tensors(tensors: Tensors, path: Path) -> None:
    """A safetensors file in the order of the names, written aside and renamed."""
    ordered = {key: tensors[key].detach().contiguous() for key in sorted(tensors)}
    write_atomic(path, save(ordered, {"format": "pt"}))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Raises MergeError where the file does not load."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as problem:
        raise MergeError(f"{path}: does not load ({problem}); fine-tune again") from problem
    return tensors


def read_document(folder: Path) -> dict[str, Any]:
    """The adapter's config. Raises MergeError where it is not one."""
    path = folder / ADAPTER_CONFIG
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise MergeError(f"{path}: not an adapter's config ({problem})") from problem
    if not isinstance(document, dict):
        raise MergeError(f"{path}: not an adapter's config; fine-tune again")
    return document


def account(expected: Mapping[str, tuple[int, ...]], found: Tensors) -> None:
    """Every tensor that is expected is there, in its shape, of finite numbers, and no other.

    Raises MergeError that names all that is not so.
    """
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{n} belongs to nothing" for n in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} has the shape {tuple(found[name].shape)}, needs {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if tuple(found[name].shape) != expected[name]
    ]
    problems += [
        f"{name} holds values that are not numbers"
        for name in sorted(found)
        if found[name].is_floating_point() and not found[name].isfinite().all()
    ]
    if problems:
        raise MergeError(
            f"the adapter is damaged: {'; '.join(problems)}. Delete its folder and fine-tune again"
        )

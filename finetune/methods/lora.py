"""LoRA (arXiv 2106.09685), with DoRA (2402.09353) and rsLoRA (2312.03732) as switches; PEFT trains
and saves it, the merge is ours: every tensor is accounted for, summed in fp32 and rounded once.
"""

import math
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from pydantic import BaseModel, ConfigDict, ValidationError
from transformers import PreTrainedModel

from edgeloop.errors import MergeError
from edgeloop.recipe import Finetune
from finetune.methods import method
from finetune.methods.method import PREFIX, Merged, Tensors
from finetune.methods.targets import linear_targets
from finetune.model import TaskModel

LORA_A, LORA_B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class LoraSettings(BaseModel):
    """What a merge must know of adapter_config.json; whatever else changes the sum is refused."""

    model_config = ConfigDict(frozen=True)

    peft_type: str
    r: int
    lora_alpha: float
    use_dora: bool
    use_rslora: bool
    target_modules: tuple[str, ...]

    @property
    def scaling(self) -> float:
        """What the product of B and A is multiplied with."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


class LoraMethod(method.PeftMethod):
    """Low-rank matrices on the encoder's linear layers."""

    def attach(self, model: TaskModel, settings: Finetune, base_name: str) -> None:
        lora = settings.lora
        key = "finetune.lora.target_modules"
        targets = linear_targets(model.encoder, lora.target_modules, key)

        def config() -> LoraConfig:
            return LoraConfig(
                task_type=TaskType.FEATURE_EXTRACTION,
                r=lora.r,
                lora_alpha=lora.lora_alpha,
                lora_dropout=lora.lora_dropout,
                target_modules=list(targets),
                use_dora=lora.use_dora,
                use_rslora=lora.use_rslora,
            )

        self.wrap(model, config, base_name)

    def merge(self, base: PreTrainedModel, folder: Path) -> Merged:
        settings, tensors = read_adapter(folder)
        return merge_tensors(base.state_dict(), tensors, settings)


def read_adapter(folder: Path) -> tuple[LoraSettings, dict[str, torch.Tensor]]:
    """An adapter in PEFT's format.

    Raises MergeError where it is not a LoRA adapter whose modules go by their full names.
    """
    document = method.read_document(folder)
    try:
        settings = LoraSettings.model_validate(document)
    except ValidationError as problem:
        raise MergeError(f"{folder}: not an adapter that can be merged ({problem})") from problem
    unknown = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save")
    refused = [key for key in unknown if document.get(key)]
    if document.get("bias", "none") != "none":
        refused.append("bias")
    if settings.peft_type != "LORA" or refused:
        raise MergeError(
            f"{folder}/{method.ADAPTER_CONFIG}: cannot merge {settings.peft_type} "
            f"{' '.join(refused)}; fine-tune again with method lora"
        )
    return settings, method.read_tensors(folder / method.ADAPTER_WEIGHTS)


def merge_tensors(base: Tensors, adapter: Tensors, settings: LoraSettings) -> Merged:
    """The encoder's tensors with the adapter in them, in the base's dtype.

    Raises MergeError that names every adapter tensor that is missing, left over or misshapen.
    """
    method.account(_expected_shapes(base, settings), adapter)
    merged = dict(base)
    for module in settings.target_modules:
        merged[f"{module}.weight"] = _sum(module, base[f"{module}.weight"], adapter, settings)
    summed = len(settings.target_modules)
    return Merged(merged, len(adapter), summed, len(base) - summed)


def _expected_shapes(base: Tensors, settings: LoraSettings) -> dict[str, tuple[int, ...]]:
    """Every tensor that this adapter must consist of."""
    expected: dict[str, tuple[int, ...]] = {}
    for module in settings.target_modules:
        if f"{module}.weight" not in base:
            raise MergeError(f"target module {module}: the base has no {module}.weight")
        rows, columns = base[f"{module}.weight"].shape
        expected[f"{PREFIX}{module}{LORA_A}"] = (settings.r, columns)
        expected[f"{PREFIX}{module}{LORA_B}"] = (rows, settings.r)
        if settings.use_dora:
            expected[f"{PREFIX}{module}{MAGNITUDE}"] = (rows,)
    return expected


def _sum(
    module: str, weight: torch.Tensor, adapter: Tensors, settings: LoraSettings
) -> torch.Tensor:
    """W + scaling * B A in fp32, rounded once; with DoRA each row is scaled to its learned
    magnitude."""
    name = f"{PREFIX}{module}"
    a, b = adapter[f"{name}{LORA_A}"].float(), adapter[f"{name}{LORA_B}"].float()
    result = weight.float() + settings.scaling * (b @ a)
    if settings.use_dora:
        magnitude = adapter[f"{name}{MAGNITUDE}"].float()
        result *= (magnitude / torch.linalg.vector_norm(result, dim=1)).unsqueeze(1)
    return result.to(weight.dtype)

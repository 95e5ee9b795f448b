"""Base plus adapter -> one model, with proof: every adapter tensor is used exactly once, and the
merged model answers as the adapter on the base does. Reads and writes safetensors.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from edgeloop.errors import MergeError
from edgeloop.records import Parity
from finetune.batches import Encoded, in_order

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
HEAD_WEIGHTS = "head.safetensors"
PREFIX = "base_model.model."
LORA_A, LORA_B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
# Largest difference of a logit, by what the base's weights are rounded to.
TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 2e-2}
MIN_AGREEMENT_RATIO = 0.999

Tensors = Mapping[str, torch.Tensor]


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
        """What the product of B and A is multiplied with (rsLoRA: arXiv 2312.03732)."""
        return self.lora_alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


@dataclass(frozen=True)
class Merged:
    """The encoder's tensors, and how many came from a sum with the adapter and from the base."""

    tensors: dict[str, torch.Tensor]
    summed: int
    copied: int


def read_adapter(folder: Path) -> tuple[LoraSettings, dict[str, torch.Tensor]]:
    """An adapter in PEFT's format.

    Raises MergeError where it is not a LoRA adapter whose modules go by their full names.
    """
    try:
        document = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        settings = LoraSettings.model_validate(document)
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, ValueError, ValidationError, SafetensorError) as problem:
        raise MergeError(f"{folder}: not an adapter that can be merged ({problem})") from problem
    unknown = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save")
    refused = [key for key in unknown if document.get(key)]
    if document.get("bias", "none") != "none":
        refused.append("bias")
    if settings.peft_type != "LORA" or refused:
        raise MergeError(
            f"{folder}/{ADAPTER_CONFIG}: cannot merge {settings.peft_type} {' '.join(refused)}; "
            "fine-tune again with method lora"
        )
    return settings, tensors


def read_head(folder: Path, hidden: int, classes: int) -> dict[str, torch.Tensor]:
    """The trained head: weight (classes, hidden), bias (classes,).

    Raises MergeError where a tensor is missing, left over or misshapen.
    """
    try:
        head = load_file(folder / HEAD_WEIGHTS)
    except (OSError, SafetensorError) as problem:
        raise MergeError(f"{folder / HEAD_WEIGHTS}: does not load ({problem})") from problem
    _account({"weight": (classes, hidden), "bias": (classes,)}, head)
    return dict(head)


def merge_tensors(base: Tensors, adapter: Tensors, settings: LoraSettings) -> Merged:
    """The encoder's tensors with the adapter in them, in the base's dtype.

    Raises MergeError that names every adapter tensor that is missing, left over or misshapen.
    """
    _account(_expected_shapes(base, settings), adapter)
    merged = dict(base)
    for module in settings.target_modules:
        merged[f"{module}.weight"] = _sum(module, base[f"{module}.weight"], adapter, settings)
    summed = len(settings.target_modules)
    return Merged(merged, summed, len(base) - summed)


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


def _account(expected: Mapping[str, tuple[int, ...]], adapter: Tensors) -> None:
    problems = [f"{name} is missing" for name in sorted(expected.keys() - adapter.keys())]
    problems += [f"{n} belongs to nothing" for n in sorted(adapter.keys() - expected.keys())]
    problems += [
        f"{name} has the shape {tuple(adapter[name].shape)}, needs {expected[name]}"
        for name in sorted(expected.keys() & adapter.keys())
        if tuple(adapter[name].shape) != expected[name]
    ]
    if problems:
        raise MergeError(
            f"the adapter is damaged: {'; '.join(problems)}. Delete its folder and fine-tune again"
        )


def _sum(
    module: str, weight: torch.Tensor, adapter: Tensors, settings: LoraSettings
) -> torch.Tensor:
    """W + scaling * B A in fp32, rounded once; with DoRA each row is scaled to its learned
    magnitude (arXiv 2402.09353)."""
    name = f"{PREFIX}{module}"
    a, b = adapter[f"{name}{LORA_A}"].float(), adapter[f"{name}{LORA_B}"].float()
    result = weight.float() + settings.scaling * (b @ a)
    if settings.use_dora:
        magnitude = adapter[f"{name}{MAGNITUDE}"].float()
        result *= (magnitude / torch.linalg.vector_norm(result, dim=1)).unsqueeze(1)
    return result.to(weight.dtype)


def prove(
    adapted: torch.nn.Module, merged: torch.nn.Module, rows: Encoded, tolerance: float
) -> Parity:
    """Both models, in fp32, on the same rows.

    Raises MergeError where a logit differs by more than the tolerance, or too many answers do.
    """
    adapted.eval()
    merged.eval()
    batches = list(in_order(rows))
    with torch.inference_mode():
        expected = torch.cat([batch.logits(adapted) for batch in batches])
        found = torch.cat([batch.logits(merged) for batch in batches])
    difference = (expected - found).abs().max().item()
    agreement = (expected.argmax(-1) == found.argmax(-1)).double().mean().item()
    # Written so that a difference that is not a number fails as well.
    if not (difference <= tolerance and agreement >= MIN_AGREEMENT_RATIO):
        raise MergeError(
            f"the merged model is not the adapter on its base: logits differ by {difference:.3g} "
            f"(at most {tolerance:g}), {agreement:.4f} of {len(rows)} answers agree (at least "
            f"{MIN_AGREEMENT_RATIO}); nothing was kept. Fine-tune again, or take an fp32 base"
        )
    return Parity(
        rows=len(rows),
        max_abs_difference=difference,
        argmax_agreement_ratio=agreement,
        tolerance=tolerance,
    )

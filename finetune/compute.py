"""How a model's forward and backward pass are computed: which dtype, and whether LoRA's layers are
fused. The weights that are trained are fp32 whatever the choice."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

from edgeloop.recipe import Finetune
from finetune.arena import Arena
from finetune.fused import FusedLora, fusible_layers

CPU_INFO = Path("/proc/cpuinfo")
BF16_FLAGS = ("amx_bf16", "avx512_bf16")
PEFT_DROPOUT = "lora_dropout"
M_MMAP_THRESHOLD = -3  # man 3 mallopt
LARGE_BYTES = 1 << 20


def has_fast_bf16(cpu_info: Path = CPU_INFO) -> bool:
    """Does the processor multiply bf16 faster than fp32? False where that cannot be told."""
    try:
        return any(flag in cpu_info.read_text(encoding="utf-8") for flag in BF16_FLAGS)
    except OSError:
        return False


def wants_bf16(settings: Finetune) -> bool:
    """What the recipe says; `auto` is what the processor says."""
    chosen = settings.training.bf16
    return has_fast_bf16() if chosen == "auto" else chosen


def still_base(encoder: torch.nn.Module) -> None:
    """Switch off the dropout of a frozen base. It was made for training the base; what is trained
    beside it has its own, and a base without dropout attends in one fused operation."""
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Dropout) and PEFT_DROPOUT not in name:
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = 0.0


def give_back_memory() -> None:
    """Let glibc hand every large tensor's memory back when it is freed: batches have all lengths,
    and what is kept for one does not fit the next. Elsewhere the allocator is left alone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)


class Compute:
    """One model's way to compute, with the random state that it draws dropout from."""

    def __init__(self, model: torch.nn.Module, arena: Arena, settings: Finetune) -> None:
        self._bf16 = wants_bf16(settings)
        layers = fusible_layers(model)
        dtype = torch.bfloat16 if self._bf16 else torch.float32
        dropout = settings.lora.lora_dropout
        self._fused = FusedLora(layers, arena, dtype, dropout) if layers else None

    def begin_epoch(self, seed: int) -> None:
        """Every epoch draws from a random state of its own."""
        torch.manual_seed(seed)
        if self._fused is not None and self._fused.bits is not None:
            self._fused.bits.begin(seed)

    @contextlib.contextmanager
    def passes(self, training: bool) -> Iterator[None]:
        """Forward passes with the present weights happen inside."""
        if self._fused is not None:
            self._fused.refresh(training)
            yield
        else:
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                yield

    def random_state(self) -> dict[str, torch.Tensor]:
        """What `set_random_state` goes on from."""
        states = {"torch": torch.get_rng_state()}
        if self._fused is not None and self._fused.bits is not None:
            states["dropout"] = self._fused.bits.state()
        return states

    def set_random_state(self, states: dict[str, torch.Tensor]) -> None:
        """Put such a state back, after `begin_epoch` of its epoch."""
        torch.set_rng_state(states["torch"])
        if self._fused is not None and self._fused.bits is not None:
            self._fused.bits.set_state(states["dropout"])

"""How a student's passes are computed: bf16 where the processor multiplies it faster than fp32, and
only by operations that repeat. The weights that are trained are fp32 whatever the choice."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edgeloop.machine import CPUINFO, isa_flags

BF16_FLAGS = {"amx_bf16", "avx512_bf16"}


def has_fast_bf16(cpuinfo: str | None = None) -> bool:
    """Does the processor multiply bf16 faster than fp32? False where that cannot be told."""
    if cpuinfo is None:
        cpuinfo = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    return bool(BF16_FLAGS & set(isa_flags(cpuinfo)))


@contextmanager
def passes() -> Iterator[None]:
    """Forward passes happen inside."""
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
        yield


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch, and let it refuse what does not repeat; the state before comes back after."""
    before = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    # Every tensor here is written before it is read; filling new ones costs a sixth of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled

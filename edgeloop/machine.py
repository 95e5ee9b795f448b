"""The machine that figures are taken on: CPU, the instructions that int8 speed depends on, and what
this process may use of it (affinity and cgroup limits, not what is installed). What the figures are
worth on a machine with other instructions.
"""

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

from edgeloop.records import Machine
from edgeloop.records_measured import Layout

CPUINFO = Path("/proc/cpuinfo")
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# x86: avx2 runs int8 at half of its VNNI speed; arm64: dot products, matrix multiply, SVE.
ISA = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "neon", "asimddp", "i8mm", "sve"),
)


def describe_machine() -> Machine:
    """The machine as this process sees it."""
    cpuinfo = CPUINFO.read_text(errors="replace") if CPUINFO.exists() else ""
    own = OWN_CGROUP.read_text() if OWN_CGROUP.exists() else ""
    cores, memory_bytes = cgroup_limits(CGROUPS, own)
    return Machine(
        cpu=cpu_name(cpuinfo),
        isa=isa_flags(cpuinfo),
        cores=max(1, min(_affinity(), math.ceil(cores))) if math.isfinite(cores) else _affinity(),
        memory_bytes=int(min(psutil.virtual_memory().total, memory_bytes)),
        platform=platform.platform(),
    )


def layouts(cores: int) -> tuple[Layout, ...]:
    """All that fill the cores exactly, from a worker per core to one worker for all of them.

    Raises ValueError where there is no core.
    """
    if cores < 1:
        raise ValueError(f"{cores} cores cannot answer anything")
    return tuple(
        Layout(workers=n, intra_op_threads=cores // n)
        for n in range(cores, 0, -1)
        if cores % n == 0
    )


def isa_warning(certified: Machine, here: Machine) -> str | None:
    """What the figures of a certificate are worth on a machine with other instructions, in one
    line; None where those that matter (ISA) are the same."""
    missing = [name for name in certified.isa if name not in here.isa]
    more = [name for name in here.isa if name not in certified.isa]
    if not missing and not more:
        return None
    differences = [
        *([f"lacks {', '.join(missing)}"] if missing else []),
        *([f"has {', '.join(more)} besides"] if more else []),
    ]
    return (
        f"certified on {certified.cpu} ({', '.join(certified.isa) or 'instructions unknown'}); "
        f"this machine, {here.cpu}, {' and '.join(differences)}: the latency and accuracy figures "
        "may not hold here, as int8 kernels differ in speed and in rounding; compress on a machine "
        "like this one"
    )


def cpu_name(cpuinfo: str) -> str:
    """The CPU's name from /proc/cpuinfo, else the platform's word for it."""
    names = [_value(line) for line in cpuinfo.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def isa_flags(cpuinfo: str) -> tuple[str, ...]:
    """Those of ISA that the first CPU in /proc/cpuinfo has, in ISA's order."""
    lines = [line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))]
    flags = set(_value(lines[0]).split()) if lines else set()
    return tuple(name for name in ISA if name in flags)


def cgroup_limits(root: Path, own: str) -> tuple[float, float]:
    """(cores, memory in bytes) that control groups allow, infinity where there is no limit.

    `own` is /proc/self/cgroup; a limit of any parent group holds as well.
    """
    cores, memory = math.inf, math.inf
    for folder in _groups(root, own):
        quota = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(quota) == 2 and quota[0].isdigit():  # v2 says "max", v1 says -1 for no limit
            cores = min(cores, int(quota[0]) / int(quota[1]))
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory = min([memory, *(int(w) for w in _words(folder / name) if w.isdigit())])
    return cores, memory


def _groups(root: Path, own: str) -> Iterator[Path]:
    """Folders of the group that this process is in and of its parents, under v2 and v1."""
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for base in {root, *(root / c for c in controllers.split(",") if c)}:
            folder = base / path.lstrip("/")
            yield folder
            yield from (parent for parent in folder.parents if parent.is_relative_to(base))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _value(line: str) -> str:
    return line.partition(":")[2].strip()


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""How many CPU cores this process may really use: its affinity, capped by its cgroup's quota.
A container with half a core must not start one thread per core of the host.
"""

import math
import os
from pathlib import Path

CGROUP_ROOT = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# From this many cores on, one is left to the event loop and the drift monitor.
RESERVE_FROM_CORES = 4


def usable_cores(root: Path = CGROUP_ROOT, own: Path = OWN_CGROUP) -> int:
    """At least 1; a fractional quota is rounded up."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [q for q in (_v2_quota(root, own), _v1_quota(root)) if q is not None]
    return max(1, min([affinity or 1, *(math.ceil(q) for q in quotas)]))


def default_workers() -> int:
    """How many inference threads suit this process."""
    cores = usable_cores()
    return cores if cores < RESERVE_FROM_CORES else cores - 1


def _v2_quota(root: Path, own: Path) -> float | None:
    """Cores by cpu.max of the process's group and of every group above it; None where unlimited.
    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
    """
    group = root / _own_group(own)
    folders = [group, *(p for p in group.parents if p.is_relative_to(root))]
    quotas = []
    for folder in folders:
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _v1_quota(root: Path) -> float | None:
    quota = _read(root / "cpu" / "cpu.cfs_quota_us")
    period = _read(root / "cpu" / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _own_group(own: Path) -> str:
    for line in _read(own).splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::").strip().lstrip("/")
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""

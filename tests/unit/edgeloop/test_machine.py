"""Machine facts: from /proc/cpuinfo, the affinity and the control groups."""

import math
import os
from pathlib import Path

from edgeloop.machine import (
    cgroup_limits,
    cpu_name,
    describe_machine,
    isa_flags,
    isa_warning,
)
from edgeloop.records import Machine

X86 = """processor\t: 0
model name\t: AMD EPYC 9654
flags\t\t: fpu avx2 avx512f avx512_vnni sse4_2
processor\t: 1
model name\t: AMD EPYC 9654
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


def test_x86_name_and_flags() -> None:
    assert cpu_name(X86) == "AMD EPYC 9654"
    assert isa_flags(X86) == ("avx2", "avx512f", "avx512_vnni")


def test_arm_flags() -> None:
    assert isa_flags(ARM) == ("asimd", "asimddp", "i8mm")


def test_without_cpuinfo_the_platform_names_the_cpu() -> None:
    assert cpu_name("") != ""
    assert isa_flags("") == ()


def test_cgroup_v2_takes_the_tightest_of_the_group_and_its_parents(tmp_path: Path) -> None:
    inner = tmp_path / "pod" / "box"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (inner / "memory.max").write_text("268435456\n")
    (tmp_path / "pod" / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "pod" / "memory.max").write_text("max\n")
    assert cgroup_limits(tmp_path, "0::/pod/box\n") == (1.5, 268435456)


def test_cgroup_v1(tmp_path: Path) -> None:
    (tmp_path / "cpu" / "box").mkdir(parents=True)
    (tmp_path / "memory" / "box").mkdir(parents=True)
    (tmp_path / "cpu" / "box" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "box" / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "memory" / "box" / "memory.limit_in_bytes").write_text("1000000\n")
    own = "4:memory:/box\n3:cpu,cpuacct:/box\n"
    assert cgroup_limits(tmp_path, own) == (0.5, 1000000)


def test_no_limits_are_infinite(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_limits(tmp_path, "3:cpu:/\n") == (math.inf, math.inf)
    assert cgroup_limits(tmp_path, "") == (math.inf, math.inf)


def test_this_machine_is_described() -> None:
    machine = describe_machine()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert machine.memory_bytes > 0
    assert machine.cpu


# -- other instructions ------------------------------------------------------------------------


def machine(cpu: str, *isa: str) -> Machine:
    return Machine(cpu=cpu, isa=isa, cores=2, memory_bytes=1, platform="test")


def test_the_same_instructions_are_no_warning_whatever_the_cpu() -> None:
    assert (
        isa_warning(machine("EPYC", "avx2", "avx_vnni"), machine("Core", "avx2", "avx_vnni"))
        is None
    )
    assert isa_warning(machine("unknown"), machine("unknown")) is None


def test_missing_and_further_instructions_are_named() -> None:
    here = machine("Core", "avx2", "avx_vnni")
    said = isa_warning(machine("EPYC", "avx2", "avx512f", "avx512_vnni"), here)
    assert said is not None
    assert "certified on EPYC (avx2, avx512f, avx512_vnni)" in said
    assert "Core, lacks avx512f, avx512_vnni and has avx_vnni besides" in said
    assert "latency and accuracy" in said
    assert "\n" not in said


def test_only_missing_and_only_further_instructions_are_warnings_too() -> None:
    less, more = machine("A", "avx2"), machine("B", "avx2", "amx_int8")
    assert "A, lacks amx_int8:" in str(isa_warning(more, less))
    assert "B, has amx_int8 besides:" in str(isa_warning(less, more))


def test_a_certificate_that_names_no_instructions_says_so() -> None:
    assert "certified on A (instructions unknown)" in str(
        isa_warning(machine("A"), machine("B", "asimd"))
    )

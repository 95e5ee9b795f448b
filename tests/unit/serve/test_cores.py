"""Cores by affinity and cgroup quota."""

import os
from pathlib import Path

import pytest

from serve.cores import usable_cores

AFFINITY = len(os.sched_getaffinity(0))


def cgroup(root: Path, group: str, quota: str) -> Path:
    folder = root / group
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(quota + "\n")
    own = root / "own"
    own.write_text(f"0::/{group}\n")
    return own


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("150000 100000", 2), ("max 100000", AFFINITY)],
)
def test_a_quota_caps_and_is_rounded_up(tmp_path: Path, quota: str, cores: int) -> None:
    own = cgroup(tmp_path, "box/server", quota)
    assert usable_cores(tmp_path, own) == min(cores, AFFINITY)


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    cgroup(tmp_path, "box", "100000 100000")
    own = cgroup(tmp_path, "box/server", "max 100000")
    assert usable_cores(tmp_path, own) == 1


def test_the_older_cgroup_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path, tmp_path / "missing") == 1


@pytest.mark.parametrize("content", ["", "nonsense", "-1 x", "max"])
def test_what_cannot_be_read_does_not_cap(tmp_path: Path, content: str) -> None:
    own = cgroup(tmp_path, "server", content)
    assert usable_cores(tmp_path, own) == AFFINITY
    assert usable_cores(tmp_path / "missing", tmp_path / "missing") == AFFINITY

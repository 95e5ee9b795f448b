"""systemd and the shell read what deploy/ gives them."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.deployed import DEPLOY, containers, cron_lines

SERVICES = ("edgeloop-serve.service", "edgeloop-retrain.service")
PROGRAM_PATH = "/opt/edgeloop/bin/edgeloop"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def _run(*words: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ if path is None else {**os.environ, "PATH": path}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def _program(folder: Path, name: str, script: str) -> Path:
    """An executable shell script."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@needs_systemd
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    installed = _program(tmp_path, "edgeloop", "exit 0")
    units = []
    for source in sorted((DEPLOY / "systemd").iterdir()):
        text = source.read_text(encoding="utf-8").replace(PROGRAM_PATH, str(installed))
        copy = tmp_path / source.name
        copy.write_text(text, encoding="utf-8")
        units.append(copy)
    assert len(units) == 3
    done = _run("systemd-analyze", "verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_confined(name: str) -> None:
    """systemd's own rating: 0 is confined, 10 is root without limits; a bare unit has above 9."""
    done = _run("systemd-analyze", "security", "--offline=true", DEPLOY / "systemd" / name)
    rating = re.search(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert rating is not None, done.stdout + done.stderr
    assert float(rating[1]) < 2.5


@pytest.mark.parametrize(("code", "failed"), [(0, False), (3, False), (1, True), (2, True)])
def test_the_nightly_pod_fails_on_errors_and_not_on_a_failed_gate(
    code: int, failed: bool, tmp_path: Path
) -> None:
    (container,) = [c for where, _, c in containers() if where == "cronjob.yaml"]
    _program(tmp_path, "edgeloop", f"exit {code}")
    done = _run(*container["command"], *container["args"], path=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode != 0) == failed


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not installed (util-linux)")
def test_the_cron_job_gives_way_to_one_that_still_runs(tmp_path: Path) -> None:
    ((_, _, command),) = cron_lines()
    _program(tmp_path, "edgeloop", 'echo "$@" >> "$RUNS"')
    _program(tmp_path, "logger", "cat > /dev/null")
    lock, runs = tmp_path / "retrain.lock", tmp_path / "runs"
    local = command.replace("/var/lib/edgeloop/retrain.lock", str(lock))
    local = f"RUNS={runs} " + local.replace(PROGRAM_PATH, str(tmp_path / "edgeloop"))
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert _run("flock", "-n", lock, "/bin/sh", "-c", local, path=path).returncode == 0
    assert not runs.exists()
    assert _run("/bin/sh", "-c", local, path=path).returncode == 0
    assert runs.read_text(encoding="utf-8") == "retrain /etc/edgeloop/recipe.yaml\n"

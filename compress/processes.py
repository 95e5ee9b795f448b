"""Runs a module of this package in a process of its own, from any working folder, installed or
not, and says in one line why it failed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_MESSAGE = "no message"


def run_module(module: str, arguments: Sequence[str]) -> str | None:
    """None where it ended well, else the reason."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        hint = "; the machine may have too little memory" if name == "SIGKILL" else ""
        return f"its process was stopped by {name}{hint}"
    return (process.stderr.strip().splitlines() or [NO_MESSAGE])[-1]

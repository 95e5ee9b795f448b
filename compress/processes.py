"""Runs a module of this package in a process of its own, and says in one line why it failed."""

import signal
import subprocess
from collections.abc import Sequence

from edgeloop.processes import last_line, module_command, module_environment


def run_module(module: str, arguments: Sequence[str]) -> str | None:
    """None where it ended well, else the reason."""
    process = subprocess.run(
        module_command(module, *arguments),
        env=module_environment(),
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
    return last_line(process.stderr)

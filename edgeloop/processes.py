"""Another Python process that runs one of our modules."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path


def module_command(module: str, *arguments: str) -> list[str]:
    """This Python, running the module."""
    return [sys.executable, "-m", module, *arguments]


def module_environment(**variables: str) -> dict[str, str]:
    """This process's environment, in which our modules are found from any working folder,
    installed or not."""
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, **variables}


def last_line(text: str) -> str:
    """What a process that failed said last."""
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1] if lines else "no message"

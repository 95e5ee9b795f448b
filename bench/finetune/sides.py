"""Runs trainings in processes of their own: one alone, or two that take turns epoch by epoch."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def train(recipe: dict[str, Any]) -> dict[str, Any]:
    """bench.finetune.ours on a recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.json"
        path.write_text(json.dumps(recipe), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "bench.finetune.ours", str(path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
    return _last_line(done.stdout.decode())


def take_turns(commands: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Start all; each in turn makes one epoch while the others wait. The documents, in order.

    Raises RuntimeError where a side ends without its document.
    """
    sides = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    found: list[dict[str, Any] | None] = [None] * len(sides)
    for side in sides:
        _wait(side, "ready")
    while any(document is None for document in found):
        for i, side in enumerate(sides):
            if found[i] is None:
                found[i] = _turn(side)
    return [document for document in found if document is not None]


def _turn(side: "subprocess.Popen[str]") -> dict[str, Any] | None:
    """Let a side go on until its next epoch is over; its document when it is done."""
    assert side.stdin is not None
    side.stdin.write("go\n")
    side.stdin.flush()
    return _wait(side, "epoch")


def _wait(side: "subprocess.Popen[str]", word: str) -> dict[str, Any] | None:
    assert side.stdout is not None
    for line in side.stdout:
        if line.strip() == word:
            return None
        if line.startswith('{"'):  # Trainer prints a dict of Python's of its own
            side.wait()
            document: dict[str, Any] = json.loads(line)
            return document
    raise RuntimeError(f"{side.args} ended with {side.wait()} and without a result")


def _last_line(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    return document

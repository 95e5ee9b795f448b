"""How far `edgeloop estimate` is from what then happens: each method is estimated, then trained
in a process of its own by `edgeloop finetune`, whose time and largest resident set are taken.

    python -m bench.finetune.estimate RECIPE [METHOD ...]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgeloop.columns import MEGABYTE, columns
from edgeloop.estimating import estimate
from edgeloop.processes import last_line, module_environment
from edgeloop.recipe import Recipe, load_recipe

# The command as it is, with its largest resident set as the last line of standard error.
COMMAND = """
import atexit, sys
from edgeloop.cli import main
from finetune.probe import peak_bytes
atexit.register(lambda: print(peak_bytes(), file=sys.stderr))
main()
"""


@dataclass(frozen=True)
class Measured:
    """A method's estimate beside what happened. The errors are signed shares of what happened."""

    method: str
    estimate_seconds: float
    estimated_memory_bytes: int
    estimated_seconds: float
    memory_bytes: int
    seconds: float

    @property
    def memory_error(self) -> float:
        """Estimated over real, less 1."""
        return self.estimated_memory_bytes / self.memory_bytes - 1.0

    @property
    def time_error(self) -> float:
        """Estimated over real, less 1."""
        return self.estimated_seconds / self.seconds - 1.0


def measure(
    recipe: Recipe,
    methods: Sequence[str] = ("lora", "full"),
    say: Callable[[str], None] = print,
) -> list[Measured]:
    """Estimate and train the recipe by each method. Set early_stopping_patience to
    num_train_epochs: an estimate counts every epoch.

    Raises RuntimeError where the training fails.
    """
    return [_measure(recipe, method, say) for method in methods]


def _measure(recipe: Recipe, method: str, say: Callable[[str], None]) -> Measured:
    settings = recipe.finetune.model_copy(update={"method": method})
    recipe = recipe.model_copy(update={"finetune": settings})
    started = time.monotonic()
    found = estimate(recipe, say, methods=()).methods[0]
    estimated = time.monotonic() - started
    say(f"training {method}")
    seconds, memory_bytes = _train(recipe)
    return Measured(method, estimated, found.memory_bytes, found.seconds, memory_bytes, seconds)


def _train(recipe: Recipe) -> tuple[float, int]:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "recipe.yaml"
        file.write_bytes(recipe.to_bytes())  # JSON is YAML
        started = time.monotonic()
        process = subprocess.run(
            [sys.executable, "-c", COMMAND, "finetune", str(file), "--json"],
            env=module_environment(EDGELOOP_HOME=os.path.join(name, "home")),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - started
    if process.returncode != 0:
        raise RuntimeError(f"the training failed: {process.stderr}")
    return seconds, int(last_line(process.stderr))


def table(measured: Sequence[Measured]) -> str:
    """One line per method."""
    rows = [
        [
            m.method,
            f"{m.estimated_memory_bytes / MEGABYTE:.0f} / {m.memory_bytes / MEGABYTE:.0f}",
            f"{m.memory_error:+.1%}",
            f"{m.estimated_seconds:.0f} / {m.seconds:.0f}",
            f"{m.time_error:+.1%}",
            f"{m.estimate_seconds:.0f}",
        ]
        for m in measured
    ]
    head = ["method", "memory MB, said / real", "error", "time s, said / real", "error", "took s"]
    return columns(head, rows)


if __name__ == "__main__":
    results = measure(load_recipe(Path(sys.argv[1])), tuple(sys.argv[2:]) or ("lora", "full"))
    print(table(results))
    print(json.dumps([asdict(result) for result in results]))

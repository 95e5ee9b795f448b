"""The parts of the benchmark. Each returns plain values, which __main__ keeps and prints."""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.finetune import data
from bench.finetune.estimate import measure
from bench.finetune.resume import killed_search
from bench.finetune.sides import take_turns, train
from edgeloop.recipe import Recipe
from edgeloop.recipe_finetune import LEARNING_RATES

EPOCHS, BATCH_ROWS = 5, 16
METHOD_EPOCHS, METHOD_ROWS = 3, 3000
SPEED_EPOCHS = 3
VARIANTS: dict[str, dict[str, Any]] = {
    "lora + DoRA": {"method": "lora", "lora": {"use_dora": True}},
    "lora + rsLoRA": {"method": "lora", "lora": {"use_rslora": True}},
}


@dataclass(frozen=True)
class Setting:
    """Where the data lies, and how much of it is used."""

    data: Path
    quick: bool

    def banking(self, folder: Path) -> Path:
        """banking77's three files."""
        rows = (2000, 500) if self.quick else (None, None)
        return data.banking77(self.data, folder, *rows)

    @property
    def epochs(self) -> int:
        """Fewer where it is to be quick."""
        return 2 if self.quick else EPOCHS

    @property
    def seeds(self) -> tuple[int, ...]:
        """Three, or one where it is to be quick."""
        return (0,) if self.quick else (0, 1, 2)


def training(setting: Setting, seed: int = 0, **other: Any) -> dict[str, Any]:
    """finetune.training of all parts."""
    return {
        "num_train_epochs": setting.epochs,
        "per_device_train_batch_size": BATCH_ROWS,
        "early_stopping_patience": setting.epochs,
        "seed": seed,
        **other,
    }


def accuracy(setting: Setting) -> dict[str, Any]:
    """LoRA on banking77, one run per seed, and full fine-tuning beside it, one run."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = setting.banking(Path(scratch))
        for method, seeds in (("lora", setting.seeds), ("full", setting.seeds[:1])):
            runs = [
                train(
                    data.recipe(
                        folder,
                        "text-classification",
                        {"method": method, "training": training(setting, seed)},
                    )
                )
                for seed in seeds
            ]
            found[method] = runs
    return found


def methods(setting: Setting) -> dict[str, Any]:
    """Every method, trained on the same part of banking77 for a few epochs, one seed."""
    found: dict[str, Any] = {}
    wanted = {name: {"method": name} for name in LEARNING_RATES} | VARIANTS
    epochs = 1 if setting.quick else METHOD_EPOCHS
    with tempfile.TemporaryDirectory() as scratch:
        rows = 1000 if setting.quick else METHOD_ROWS
        folder = data.banking77(setting.data, Path(scratch), rows, 500 if setting.quick else None)
        for name, finetune in wanted.items():
            chosen = {**finetune, "training": training(setting, num_train_epochs=epochs)}
            found[name] = train(data.recipe(folder, "text-classification", chosen))
    return found


def tagging(setting: Setting) -> dict[str, Any]:
    """restaurant8k with the requested slots as the second text, LoRA."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = 1500 if setting.quick else None
        folder = data.restaurant8k(setting.data, Path(scratch), rows)
        finetune = {"method": "lora", "training": training(setting)}
        return train(data.recipe(folder, "token-classification", finetune))


def speed(setting: Setting) -> dict[str, Any]:
    """edgeloop and Trainer + PEFT in turns: same rows, batch size, epochs, learning rate, seed."""
    epochs, rate = (1 if setting.quick else SPEED_EPOCHS), LEARNING_RATES["lora"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = data.banking77(setting.data, Path(scratch), METHOD_ROWS, None)
        path = Path(scratch) / "recipe.json"
        wanted = training(setting, num_train_epochs=epochs, learning_rate=rate)
        recipe = data.recipe(folder, "text-classification", {"method": "lora", "training": wanted})
        path.write_text(json.dumps(recipe), encoding="utf-8")
        peer = ["bench.finetune.peer", str(folder), "--epochs", str(epochs), "--seed", "0"]
        peer += ["--batch-rows", str(BATCH_ROWS), "--learning-rate", str(rate)]
        ours, theirs = take_turns([["bench.finetune.ours", str(path), "--paced"], peer])
    pairs = zip(theirs["epoch_seconds"], ours["epoch_seconds"], strict=True)
    return {
        "ours": ours,
        "trainer": theirs,
        "speedup": statistics.median(b / a for b, a in pairs),
        "memory_ratio": ours["rss_bytes"] / theirs["rss_bytes"],
    }


def estimates(setting: Setting) -> dict[str, Any]:
    """`edgeloop estimate` against what then happens, LoRA and full, one epoch."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = 1000 if setting.quick else 4000
        folder = data.banking77(setting.data, Path(scratch), rows, 500)
        chosen = {"method": "lora", "training": training(setting, num_train_epochs=1)}
        document = data.recipe(folder, "text-classification", chosen)
        recipe = Recipe.model_validate_json(json.dumps(document))
        found = measure(recipe, say=_quietly)
    return {
        entry.method: {
            "memory_error": entry.memory_error,
            "time_error": entry.time_error,
            "memory_bytes": entry.memory_bytes,
            "seconds": entry.seconds,
            "estimate_seconds": entry.estimate_seconds,
        }
        for entry in found
    }


def _quietly(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def search(setting: Setting) -> dict[str, Any]:
    """A search over learning rate and rank, killed in its third trial."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = data.banking77(setting.data, Path(scratch), 1000, 500)
        space = {
            "training.learning_rate": {"low": 1e-4, "high": 5e-3, "log": True},
            "lora.r": [4, 16],
        }
        chosen = {
            "method": "lora",
            "training": training(setting, num_train_epochs=2),
            "search": {"n_trials": 4 if setting.quick else 6, "space": space},
        }
        path = Path(scratch) / "recipe.yaml"
        path.write_text(json.dumps(data.recipe(folder, "text-classification", chosen)))
        return killed_search(path, Path(scratch) / "home", finished_before_kill=2)


PARTS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "speed": speed,
    "accuracy": accuracy,
    "methods": methods,
    "tagging": tagging,
    "estimates": estimates,
    "search": search,
}

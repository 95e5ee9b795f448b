"""python -m bench.finetune [--quick] [--data ../shared/data] [--only PART ...] [--keep FOLDER]

Runs the parts one after another, keeps each one's figures in a folder (so that a part that is done
need not be run again: --only), and ends with one line of JSON.
"""

import statistics
from typing import Any

from bench.finetune.parts import BATCH_ROWS, PARTS, Setting
from bench.report import finish, read_options, run_parts, table

PACKAGES = ("torch", "transformers", "peft", "accelerate", "bitsandbytes", "optuna")
MEGABYTE = 1_000_000
CAVEATS = (
    "## Caveats\n\nParts may have run at different times and beside other work: only the two sides "
    "of the speed part, and an estimate and its run, are comparable in seconds. banking77's own "
    "labels are noisy; 3,080 test rows have a standard error of 0.45 points at 0.93."
)


def main() -> None:
    """See the module."""
    options = read_options("finetune", PARTS, "build/bench/finetune")
    found = run_parts(PARTS, options.only, Setting(options.data, options.quick), options.keep)
    sections = [SECTIONS[name](found[name]) for name in found] + [CAVEATS]
    finish("finetune", sections, PACKAGES, summary(found))


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that the benchmark promises; null where its part was not run."""
    lora, full = (
        [run["accuracy"] for run in found.get("accuracy", {}).get(method, [])]
        for method in ("lora", "full")
    )
    runs = found.get("accuracy", {}).get("lora", [])
    estimates = found.get("estimates", {}).values()
    return {
        "accuracy_mean": statistics.mean(lora) if lora else None,
        "accuracy_full": statistics.mean(full) if full else None,
        "trainable_ratio": runs[0]["trainable_ratio"] if runs else None,
        "speedup": found.get("speed", {}).get("speedup"),
        "memory_ratio": found.get("speed", {}).get("memory_ratio"),
        "tagging_f1": found.get("tagging", {}).get("f1"),
        "estimate_memory_error": max((abs(e["memory_error"]) for e in estimates), default=None),
        "estimate_time_error": max((abs(e["time_error"]) for e in estimates), default=None),
        "methods": {name: run["accuracy"] for name, run in found.get("methods", {}).items()},
    }


def _speed(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            side["rows"],
            len(side["epoch_seconds"]),
            f"{side['rows'] / statistics.median(side['epoch_seconds']):.0f}",
            f"{side['rss_bytes'] / MEGABYTE:.0f}",
            f"{side['accuracy']:.4f}",
        )
        for name, side in (("edgeloop", found["ours"]), ("Trainer + PEFT", found["trainer"]))
    ]
    head = ("side", "train rows", "epochs", "rows/s", "peak RSS MB", "test accuracy")
    return (
        "## Speed\n\nbanking77, MiniLM-L6, LoRA r=16 on all linear layers, batches of "
        f"{BATCH_ROWS}, "
        "same epochs, learning rate and seed, the two sides in turns epoch by epoch; validation "
        f"not counted.\n\n{table(head, rows)}\n\nMedian of the epochs' ratios: "
        f"{found['speedup']:.2f}; memory ratio {found['memory_ratio']:.2f}."
    )


def _accuracy(found: dict[str, Any]) -> str:
    rows = [
        (
            method,
            ", ".join(f"{run['accuracy']:.4f}" for run in runs),
            f"{statistics.mean(run['accuracy'] for run in runs):.4f}",
            f"{runs[0]['trainable_ratio']:.2%}",
            f"{statistics.mean(run['seconds'] for run in runs):.0f}",
            ", ".join(str(run["best_epoch"]) for run in runs),
        )
        for method, runs in found.items()
    ]
    head = ("method", "test accuracy per seed", "mean", "trained", "s", "best epoch")
    return f"## Accuracy on banking77\n\n{table(head, rows)}"


def _methods(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{run['accuracy']:.4f}",
            f"{run['trainable_ratio']:.2%}",
            f"{run['seconds']:.0f}",
            f"{run['rss_bytes'] / MEGABYTE:.0f}",
        )
        for name, run in found.items()
    ]
    first = next(iter(found.values()))
    head = ("method", "test accuracy", "trained", "s", "peak RSS MB")
    return (
        f"## Every method: {first['rows']} rows of banking77, {first['epochs']} epochs, one seed"
        "\n\n"
        f"{table(head, rows)}"
    )


def _tagging(found: dict[str, Any]) -> str:
    return (
        f"## restaurant8k\n\nMicro-F1 on exact spans of the test split, overlapping ones included: "
        f"{found['f1']:.4f} (LoRA, {found['epochs']} epochs, {found['seconds']:.0f} s)."
    )


def _estimates(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            f"{entry['memory_error']:+.1%}",
            f"{entry['time_error']:+.1%}",
            f"{entry['memory_bytes'] / MEGABYTE:.0f}",
            f"{entry['seconds']:.0f}",
            f"{entry['estimate_seconds']:.0f}",
        )
        for name, entry in found.items()
    ]
    head = ("method", "memory error", "time error", "MB", "s", "estimating took s")
    return f"## Estimate against what then happened\n\n{table(head, rows)}"


def _search(found: dict[str, Any]) -> str:
    ends = ", ".join(f"{count} {state}" for state, count in found["trials"].items())
    best = ", ".join(f"{key} {value:.4g}" for key, value in found["parameters"].items())
    return (
        f"## Search, killed with SIGKILL after {found['killed_after_trials']} trials, and resumed"
        "\n\n"
        f"Trials at the end: {ends}. Found: {best}."
    )


SECTIONS = {
    "speed": _speed,
    "accuracy": _accuracy,
    "methods": _methods,
    "tagging": _tagging,
    "estimates": _estimates,
    "search": _search,
}

if __name__ == "__main__":
    main()

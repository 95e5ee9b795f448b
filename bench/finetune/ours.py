"""One training by edgeloop in a process of its own; prints one JSON document.

python -m bench.finetune.ours RECIPE.json [--paced]

--paced: waits for a line on standard input before it trains and after every epoch, so that two
sides can take turns on one machine.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset
from edgeloop.rows import Row, Span, read_rows
from edgeloop.rundir import RunDir
from edgeloop.tasks import TASKS, Answer, is_right
from finetune import stage
from finetune.adapt import HEAD_WEIGHTS, Inputs
from finetune.base import resolve_base
from finetune.encoder import quiet_transformers
from finetune.methods.method import read_tensors
from finetune.methods.registry import METHODS
from finetune.scoring import Scorer, score_merged

EPOCH = re.compile(r"epoch \d+/\d+:")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="bench.finetune.ours")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--paced", action="store_true")
    options = parser.parse_args()
    recipe = Recipe.model_validate_json(options.recipe.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(recipe, RunDir(Path(folder)), options.paced)), flush=True)


def pace(paced: bool, line: str) -> None:
    """Say that an epoch is over, and wait for the turn."""
    print(line, file=sys.stderr, flush=True)
    if paced and EPOCH.match(line):
        print("epoch", flush=True)
        sys.stdin.readline()


def _measure(recipe: Recipe, run: RunDir, paced: bool) -> dict[str, Any]:
    dataset = stage.prepare(recipe, run)
    if paced:
        print("ready", flush=True)
        sys.stdin.readline()
    started = time.monotonic()
    adapter = stage.train(recipe, dataset, run, lambda line: pace(paced, line))
    seconds = time.monotonic() - started
    rss_bytes = peak_rss_bytes()
    document = {
        "seconds": seconds,
        "rss_bytes": rss_bytes,
        "epoch_seconds": [epoch.train_seconds for epoch in adapter.epochs],
        "rows": dataset.rows["train"],
        "epochs": len(adapter.epochs),
        "best_epoch": adapter.best_epoch,
        "trainable_ratio": adapter.trainable_parameters / adapter.total_parameters,
        "validation_metric": adapter.epochs[adapter.best_epoch - 1].validation_metric,
    }
    return {**document, **_test(recipe, dataset, adapter, run)}


def _test(recipe: Recipe, dataset: Dataset, adapter: Adapter, run: RunDir) -> dict[str, float]:
    """The test figure of what ships: the merged model, or the unmerged one where none can be."""
    rows = read_rows(run.folder("dataset"), "test")
    inputs = [row.input for row in rows]
    if METHODS[recipe.finetune.method].unmergeable is None:
        stage.merge(recipe, dataset, adapter, run)
        folder, max_tokens = run.folder("merged"), recipe.serve.max_tokens
        outputs = score_merged(folder, recipe.task, dataset.labels, inputs, max_tokens)
    else:
        outputs = _unmerged(recipe, dataset, run)(inputs)
    task = TASKS[recipe.task]
    answers = [task.answer(output, dataset.labels) for output in outputs]
    if recipe.task == "token-classification":
        return {"f1": _span_f1(answers, rows, _all_spans(recipe))}
    right = [is_right(answer, task.truth(row)) for answer, row in zip(answers, rows, strict=True)]
    return {"accuracy": sum(right) / len(right)}


def _unmerged(recipe: Recipe, dataset: Dataset, run: RunDir) -> Scorer:
    """The adapter on its base."""
    base = resolve_base(recipe.base)
    inputs = Inputs(recipe, dataset, run, base)
    with quiet_transformers():
        model, folder = inputs.model(), run.folder("adapter")
        inputs.method.restore(model, folder)
        model.set_folded_head(read_tensors(folder / HEAD_WEIGHTS))
    return Scorer(model, base.folder, recipe.serve.max_tokens)


def _all_spans(recipe: Recipe) -> dict[str, set[Span]]:
    """Every span of the test file by row id, overlapping ones included."""
    path = recipe.data.files.test[0]  # type: ignore[union-attr]
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    return {d["id"]: {Span(**span) for span in d["all_spans"]} for d in documents}


def _span_f1(answers: list[Answer], rows: list[Row], meant: dict[str, set[Span]]) -> float:
    both = said = wanted = 0
    for answer, row in zip(answers, rows, strict=True):
        both += len(set(answer.spans) & meant[row.id])
        said += len(set(answer.spans))
        wanted += len(meant[row.id])
    return 2 * both / (said + wanted)


def peak_rss_bytes() -> int:
    """The most memory that this process has held (VmHWM, man 5 proc)."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()

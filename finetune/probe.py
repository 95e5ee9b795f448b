"""What a training costs, measured on a part of it: the real base, the real rows, real steps.

The first part holds the longest rows of all, so that the peak of the memory is seen; the second one
is drawn from all rows, and long enough for a stable rate. Run in a process of its own (the memory
is the process's), by edgeloop/estimating.py.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from edgeloop.recipe import Recipe
from edgeloop.records import Probe
from edgeloop.rundir import RunDir
from finetune.adapt import Inputs, count, save_trained
from finetune.arena import trainable
from finetune.base import TOKENIZER_FILES, resolve_base
from finetune.batches import EVALUATION_BATCH_ROWS, Encoded
from finetune.checkpoint import CHECKPOINT
from finetune.encoder import quiet_transformers
from finetune.model import TaskModel
from finetune.split import digest_ratio
from finetune.stage import prepare
from finetune.train import deterministic, evaluate, fit

LONGEST_BATCHES = 2
# A whole bucket of finetune.batches, so that batches are of as similar a length as in a training.
TIMED_BATCHES = 16
TIMED_SECONDS = 4.0
MOST_TIMED_BATCHES = 128
EVALUATED_BATCHES = 2
# What is learnt does not matter here, and must not diverge.
LEARNING_RATE = 1.0e-6

T = TypeVar("T")


def probe(recipe: Recipe, method: str, started: float) -> Probe:
    """Measure the recipe with another method; `started` is when the process was, time.time().

    Raises what a training raises: DatasetError, RecipeError, TrainingError.
    """
    imported = time.time() - started
    recipe = _with_method(recipe, method)
    with tempfile.TemporaryDirectory() as name:
        run = RunDir(Path(name))
        rows_seconds, dataset = _timed(lambda: prepare(recipe, run))
        inputs = Inputs(recipe, dataset, run, resolve_base(recipe.base))
        with quiet_transformers(), deterministic(recipe.finetune.training.seed):
            return _measure(inputs, imported + rows_seconds)


def _with_method(recipe: Recipe, method: str) -> Recipe:
    training = recipe.finetune.training.model_copy(
        update={"num_train_epochs": 1, "learning_rate": LEARNING_RATE}
    )
    update = {"method": method, "training": training, "search": None}
    return recipe.model_copy(update={"finetune": recipe.finetune.model_copy(update=update)})


def _measure(inputs: Inputs, until_rows_seconds: float) -> Probe:
    load_seconds, model = _timed(inputs.model)
    total = sum(map(count, model.parameters()))
    inputs.method.attach(model, inputs.recipe.finetune, inputs.base.name)
    tokenizer = inputs.tokenizer(model.encoder.config)
    encode_seconds, (train, validation) = _timed(
        lambda: [inputs.encoded(tokenizer, split) for split in ("train", "validation")]
    )
    folder = inputs.run.root / "probe"
    folder.mkdir()
    row_seconds, checkpoint_seconds = _training_rates(inputs, model, train, validation, folder)
    checkpoint_bytes = _bytes(folder)
    (folder / CHECKPOINT).unlink()
    save_seconds, _ = _timed(lambda: save_trained(inputs, model, folder))
    return Probe(
        method=inputs.recipe.finetune.method,
        train_rows=len(train),
        validation_rows=len(validation),
        start_seconds=until_rows_seconds + load_seconds + encode_seconds,
        train_row_seconds=row_seconds,
        validation_row_seconds=_evaluation_rate(model, validation),
        checkpoint_seconds=checkpoint_seconds,
        save_seconds=save_seconds,
        peak_bytes=peak_bytes(),
        trainable_parameters=sum(p.numel() for p in trainable(model).values()),
        total_parameters=total,
        dataset_bytes=_bytes(inputs.run.folder("dataset")),
        adapter_bytes=_bytes(folder),
        checkpoint_bytes=checkpoint_bytes,
        tokenizer_bytes=sum(
            (inputs.base.folder / name).stat().st_size
            for name in TOKENIZER_FILES
            if (inputs.base.folder / name).is_file()
        ),
        is_mergeable=inputs.method.unmergeable is None,
    )


def _training_rates(
    inputs: Inputs, model: TaskModel, train: Encoded, validation: Encoded, folder: Path
) -> tuple[float, float]:
    """Seconds per training row, and per checkpoint."""
    batch_rows = inputs.recipe.finetune.training.per_device_train_batch_size
    longest = subset(train, _longest(train, LONGEST_BATCHES * batch_rows))
    judged = subset(validation, _longest(validation, EVALUATION_BATCH_ROWS))
    _fit(inputs, model, longest, judged, folder)
    warm = subset(train, _drawn(train, LONGEST_BATCHES * batch_rows))
    seconds, _ = _fit(inputs, model, warm, subset(validation, [0]), folder)
    batches = min(MOST_TIMED_BATCHES, int(TIMED_SECONDS / (seconds / LONGEST_BATCHES)))
    count = batch_rows * max(TIMED_BATCHES, batches)
    timed = subset(train, _drawn(train, count))
    seconds, checkpoint = _fit(inputs, model, timed, subset(validation, [0]), folder)
    return seconds / len(timed), checkpoint


def _fit(
    inputs: Inputs, model: TaskModel, train: Encoded, validation: Encoded, folder: Path
) -> tuple[float, float]:
    """Seconds of one epoch, and of what comes beside it: the optimizer and the checkpoint."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    settings = inputs.recipe.finetune
    seconds, epochs = _timed(
        lambda: fit(model, lambda _: train, validation, settings, folder, lambda _: None)
    )
    return epochs[0].seconds, seconds - epochs[0].seconds


def _evaluation_rate(model: TaskModel, validation: Encoded) -> float:
    rows = subset(validation, _drawn(validation, EVALUATED_BATCHES * EVALUATION_BATCH_ROWS))
    seconds, _ = _timed(lambda: evaluate(model, rows))
    return seconds / len(rows)


def subset(encoded: Encoded, positions: Sequence[int]) -> Encoded:
    """The rows at these positions."""
    return replace(
        encoded,
        parts=[encoded.parts[i] for i in positions],
        targets=[encoded.targets[i] for i in positions],
        soft=None if encoded.soft is None else encoded.soft[list(positions)],
    )


def _longest(encoded: Encoded, most: int) -> list[int]:
    return sorted(range(len(encoded)), key=encoded.tokens, reverse=True)[:most]


def _drawn(encoded: Encoded, most: int) -> list[int]:
    return sorted(range(len(encoded)), key=lambda i: digest_ratio(str(i)))[:most]


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.monotonic()
    result = work()
    return time.monotonic() - started, result


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def peak_bytes() -> int:
    """The largest resident set of this process so far: VmHWM where the kernel tells, which unlike
    getrusage's figure does not count what the process was before it ran Python."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

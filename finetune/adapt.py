"""Dataset -> adapter: builds the model, trains it and saves what was trained."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from edgeloop.bundle import Bundle
from edgeloop.errors import EdgeloopError, TrainingError
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, Epoch, FileEntry
from edgeloop.rows import Row, read_rows
from edgeloop.rundir import RECORD_NAME, RunDir, list_files
from edgeloop.tasks import TASKS
from finetune.arena import trainable
from finetune.augment import augmented
from finetune.base import Base
from finetune.batches import Encoded
from finetune.checkpoint import CHECKPOINT
from finetune.encode import encode
from finetune.encoder import load_config, load_tokenizer
from finetune.epochs import best_epoch
from finetune.methods.method import Method, save_tensors
from finetune.methods.registry import METHODS
from finetune.model import MODELS, TaskModel, task_settings
from finetune.objectives import OBJECTIVES
from finetune.retention.distill import soft_targets
from finetune.split import digest_ratio
from finetune.train import OnEpoch, Say, fit

DATASET, ADAPTER, MERGED = "dataset", "adapter", "merged"
HEAD_WEIGHTS = "head.safetensors"


@dataclass(frozen=True)
class Inputs:
    """What training and merging both read."""

    recipe: Recipe
    dataset: Dataset
    run: RunDir
    base: Base
    teacher: Bundle | None = None  # the deployed model, where the recipe distils it

    @property
    def method(self) -> Method:
        """The recipe's method."""
        return METHODS[self.recipe.finetune.method]

    def depends_on(self) -> dict[str, Any]:
        """All that a training's result follows from."""
        return {
            "dataset": self.dataset.digest,
            "base": self.base.digest,
            "base_name": self.base.name,
            "task": self.recipe.task,
            "finetune": self.recipe.finetune.model_dump(mode="json"),
            "max_tokens": self.recipe.serve.max_tokens,
            "augment": self.recipe.data.augment.model_dump(mode="json"),
            "teacher": None if self.teacher is None else self.teacher.digest,
        }

    def config(self) -> Any:
        """The base's config with the task in it."""
        settings = task_settings(self.recipe.task, self.dataset.labels)
        return load_config(self.base.folder, **settings)

    def model(self) -> TaskModel:
        """The base as the method trains on it, with a new head."""
        encoder = self.method.load_base(self.base.folder, self.config(), self.recipe.finetune)
        width = TASKS[self.recipe.task].width(self.dataset.labels)
        return MODELS[self.recipe.task](encoder, width)

    def tokenizer(self, config: Any) -> PreTrainedTokenizerBase:
        """The base's tokenizer, able to read serve.max_tokens."""
        return load_tokenizer(self.base.folder, config, self.recipe.serve.max_tokens)

    def encoded(
        self, tokenizer: PreTrainedTokenizerBase, split: str, most: int | None = None
    ) -> Encoded:
        """A split's rows as token ids; with `most`, that many of them, drawn by their ids."""
        rows = read_rows(self.run.folder(DATASET), split)
        if most is not None:
            rows = sorted(rows, key=lambda row: digest_ratio(row.id))[:most]
        return self._encode(rows, tokenizer)

    def _encode(self, rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Encoded:
        task, max_tokens = self.recipe.task, self.recipe.serve.max_tokens
        return encode(rows, task, self.dataset.labels, tokenizer, max_tokens)

    def training_rows(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[int], Encoded]:
        """The training rows of an epoch: the same every time, or with the recipe's noise; what the
        teacher says is said of the rows without noise."""
        rows = read_rows(self.run.folder(DATASET), "train")
        soft = None
        if self.teacher is not None:
            soft = soft_targets(self.teacher, rows, self.dataset.labels)
        augment, seed = self.recipe.data.augment, self.recipe.finetune.training.seed
        if not augment.is_on:
            return _once(replace(self._encode(rows, tokenizer), soft=soft))

        def noisy(epoch: int) -> Encoded:
            changed = [augmented(row, augment, seed, epoch) for row in rows]
            return replace(self._encode(changed, tokenizer), soft=soft)

        return noisy


def _once(encoded: Encoded) -> Callable[[int], Encoded]:
    return lambda _: encoded


def check_files(folder: Path, entries: tuple[FileEntry, ...]) -> None:
    """Raises EdgeloopError where a stage's files are not those that its record names."""
    if list_files(folder) != entries:
        raise EdgeloopError(
            f"{folder}: the files are not those that its record names; delete the folder and run "
            "its stage again"
        )


def count(parameter: torch.nn.Parameter) -> int:
    """How many weights a parameter stands for; those in 4 bits are stored two to the byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def check_positions(model: TaskModel, max_tokens: int) -> None:
    """Raises TrainingError where the virtual tokens leave the base too few positions."""
    if model.virtual_tokens == 0:
        return
    for name, table in model.encoder.named_modules():
        if not name.endswith("position_embeddings") or not isinstance(table, torch.nn.Embedding):
            continue
        # RoBERTa's kin count from the padding token's number on.
        reserved = 0 if table.padding_idx is None else table.padding_idx + 1
        room = table.num_embeddings - reserved - model.virtual_tokens
        if max_tokens > room:
            raise TrainingError(
                f"serve.max_tokens is {max_tokens}, with {model.virtual_tokens} virtual tokens the "
                f"base reads at most {room} of a text; lower serve.max_tokens or num_virtual_tokens"
            )


@dataclass(frozen=True)
class Trained:
    """A model with its best epoch's weights, and how many parameters it has."""

    model: TaskModel
    epochs: list[Epoch]
    trainable: int
    total: int


def train_model(
    inputs: Inputs, folder: Path, progress: Say, on_epoch: OnEpoch | None = None
) -> Trained:
    """Build the model and train it; the folder holds the checkpoint. The seed must be set before.

    Raises TrainingError where the settings do not fit the base or the training diverges.
    """
    recipe = inputs.recipe
    model = inputs.model()
    total = sum(map(count, model.parameters()))
    tokenizer = inputs.tokenizer(model.encoder.config)
    inputs.method.attach(model, recipe.finetune, inputs.base.name)
    check_positions(model, recipe.serve.max_tokens)
    validation = inputs.encoded(tokenizer, "validation")
    trained = sum(parameter.numel() for parameter in trainable(model).values())
    progress(f"training {trained} of {total} parameters on {inputs.dataset.rows['train']} rows")
    rows_of = inputs.training_rows(tokenizer)
    epochs = fit(model, rows_of, validation, recipe.finetune, folder, progress, on_epoch)
    return Trained(model, epochs, trained, total)


def save_trained(inputs: Inputs, model: TaskModel, folder: Path) -> None:
    """What was trained, head included."""
    inputs.method.save(model, folder)
    head = model.folded_head()
    if head:
        save_tensors(head, folder / HEAD_WEIGHTS)


def train_adapter(inputs: Inputs, folder: Path, inputs_digest: str, progress: Say) -> Adapter:
    """Train and save; the seed must be set before."""
    recipe, dataset = inputs.recipe, inputs.dataset
    trained = train_model(inputs, folder, progress)
    save_trained(inputs, trained.model, folder)
    files = list_files(folder, (RECORD_NAME, CHECKPOINT))
    (folder / CHECKPOINT).unlink()
    return Adapter(
        inputs_digest=inputs_digest,
        files=files,
        method=recipe.finetune.method,
        metric=OBJECTIVES[recipe.task].name,
        base=inputs.base.name,
        base_digest=inputs.base.digest,
        dataset_digest=dataset.digest,
        labels=dataset.labels,
        trainable_parameters=trained.trainable,
        total_parameters=trained.total,
        epochs=tuple(trained.epochs),
        best_epoch=best_epoch(trained.epochs).epoch,
        seed=recipe.finetune.training.seed,
        seconds=sum(epoch.seconds for epoch in trained.epochs),
    )

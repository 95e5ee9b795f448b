"""Dataset -> adapter: builds the model, trains it and saves what was trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from edgeloop.errors import EdgeloopError
from edgeloop.recipe import Recipe
from edgeloop.records import Adapter, Dataset, Epoch, FileEntry
from edgeloop.rows import read_rows
from edgeloop.rundir import RECORD_NAME, RunDir, list_files
from edgeloop.tasks import TASKS
from finetune.base import Base
from finetune.batches import Encoded
from finetune.checkpoint import CHECKPOINT, trainable
from finetune.encode import encode
from finetune.encoder import load_config, load_tokenizer
from finetune.methods.method import Method, save_tensors
from finetune.methods.registry import METHODS
from finetune.model import MODELS, TaskModel, task_settings
from finetune.objectives import OBJECTIVES
from finetune.split import digest_ratio
from finetune.train import OnEpoch, Say, best_epoch, fit

DATASET, ADAPTER, MERGED = "dataset", "adapter", "merged"
HEAD_WEIGHTS = "head.safetensors"


@dataclass(frozen=True)
class Inputs:
    """What training and merging both read."""

    recipe: Recipe
    dataset: Dataset
    run: RunDir
    base: Base

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
        task, max_tokens = self.recipe.task, self.recipe.serve.max_tokens
        return encode(rows, task, self.dataset.labels, tokenizer, max_tokens)


def check_files(folder: Path, entries: tuple[FileEntry, ...]) -> None:
    """Raises EdgeloopError where a stage's files are not those that its record names."""
    if list_files(folder) != entries:
        raise EdgeloopError(
            f"{folder}: the files are not those that its record names; delete the folder and run "
            "its stage again"
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
    total = sum(parameter.numel() for parameter in model.parameters())
    tokenizer = inputs.tokenizer(model.encoder.config)
    inputs.method.attach(model, recipe.finetune, inputs.base.name)
    rows, validation = (inputs.encoded(tokenizer, split) for split in ("train", "validation"))
    trained = sum(parameter.numel() for parameter in trainable(model).values())
    progress(f"training {trained} of {total} parameters on {len(rows)} rows")
    epochs = fit(model, rows, validation, recipe.finetune, folder, progress, on_epoch)
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

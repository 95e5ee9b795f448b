"""A training's state on disk: everything comes back, and nothing half-written is taken for it."""

from pathlib import Path

import pytest
import torch

from edgeloop.records import Epoch
from finetune.arena import Arena
from finetune.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint, write_checkpoint

EPOCHS = [
    Epoch(
        epoch=1,
        train_loss=1,
        validation_loss=0.1,
        validation_metric=0.5,
        train_seconds=1,
        seconds=2,
    )
]


def arena(seed: int) -> tuple[torch.nn.Module, Arena]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    return model, Arena(model, 0.1, 0.01)


def step(model: torch.nn.Module, trained: Arena) -> None:
    model(torch.ones(8, 3)).square().sum().backward()
    trained.step(0.1, 1.0)


def checkpoint(trained: Arena, best: torch.Tensor) -> Checkpoint:
    return Checkpoint(
        epochs=EPOCHS,
        steps=7,
        loss=1.5,
        train_seconds=3.25,
        weights=trained.data,
        best=best,
        moments=trained.moments(),
        random={"torch": torch.get_rng_state()},
    )


def test_a_restored_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    model, trained = arena(0)
    step(model, trained)
    best = trained.data.clone()
    step(model, trained)
    write_checkpoint(tmp_path, checkpoint(trained, best))
    step(model, trained)  # with dropout: the random state matters
    other, other_trained = arena(1)
    read = read_checkpoint(tmp_path)
    assert read is not None
    other[0].weight.data.copy_(model[0].weight)  # frozen: it is the base's
    other_trained.restore(read.weights, read.moments)
    torch.set_rng_state(read.random["torch"])
    step(other, other_trained)
    assert (read.epochs, read.steps, read.loss, read.train_seconds) == (EPOCHS, 7, 1.5, 3.25)
    assert torch.equal(read.best, best)
    assert torch.equal(trained.data, other_trained.data)


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        model, trained = arena(0)
        step(model, trained)
        write_checkpoint(tmp_path / name, checkpoint(trained, trained.data.clone()))
    assert (tmp_path / "one" / CHECKPOINT).read_bytes() == (
        tmp_path / "two" / CHECKPOINT
    ).read_bytes()


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None


@pytest.mark.parametrize("kept_bytes", [0, 5, 200])
def test_a_torn_checkpoint_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept_bytes: int
) -> None:
    model, trained = arena(0)
    step(model, trained)
    write_checkpoint(tmp_path, checkpoint(trained, trained.data.clone()))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:kept_bytes])
    assert read_checkpoint(tmp_path) is None
    assert "training=restarts" in caplog.text

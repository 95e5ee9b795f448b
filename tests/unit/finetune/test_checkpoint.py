"""A training's state on disk: everything comes back, and nothing half-written is taken for it."""

from pathlib import Path

import pytest
import torch

from edgeloop.records import Epoch
from finetune.checkpoint import (
    CHECKPOINT,
    copy_weights,
    read_checkpoint,
    restore,
    set_weights,
    trainable,
    write_checkpoint,
)

EPOCHS = [Epoch(epoch=1, train_loss=1, validation_loss=0.1, validation_metric=0.5, seconds=2)]


def make(seed: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    return model, torch.optim.AdamW(trainable(model).values(), lr=0.1)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(8, 3)).square().sum().backward()
    optimizer.step()


def test_only_what_is_trained_is_copied() -> None:
    model, _ = make(0)
    assert set(copy_weights(model)) == {"0.bias", "2.weight", "2.bias"}


def test_copied_weights_do_not_follow_the_training() -> None:
    model, optimizer = make(0)
    before = copy_weights(model)
    step(model, optimizer)
    assert not torch.equal(before["2.bias"], model.get_parameter("2.bias"))
    set_weights(model, before)
    assert torch.equal(before["2.bias"], model.get_parameter("2.bias"))


def test_a_restored_training_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    model, optimizer = make(0)
    step(model, optimizer)
    best = copy_weights(model)
    step(model, optimizer)
    write_checkpoint(tmp_path, model, optimizer, EPOCHS, best)
    step(model, optimizer)  # with dropout: the random state matters
    other, other_optimizer = make(0)
    torch.manual_seed(1234)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    restore(checkpoint, other, other_optimizer)
    step(other, other_optimizer)
    assert checkpoint.epochs == EPOCHS
    assert all(torch.equal(checkpoint.best[name], tensor) for name, tensor in best.items())
    for name, tensor in copy_weights(model).items():
        assert torch.equal(tensor, other.get_parameter(name)), name


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        model, optimizer = make(0)
        step(model, optimizer)
        write_checkpoint(tmp_path / name, model, optimizer, EPOCHS, copy_weights(model))
    assert (tmp_path / "one" / CHECKPOINT).read_bytes() == (
        tmp_path / "two" / CHECKPOINT
    ).read_bytes()


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path) is None


@pytest.mark.parametrize("kept_bytes", [0, 5, 200])
def test_a_torn_checkpoint_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept_bytes: int
) -> None:
    model, optimizer = make(0)
    step(model, optimizer)
    write_checkpoint(tmp_path, model, optimizer, EPOCHS, copy_weights(model))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:kept_bytes])
    assert read_checkpoint(tmp_path) is None
    assert "training=restarts" in caplog.text

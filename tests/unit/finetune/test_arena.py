"""Trained parameters as one flat tensor: the same training as with PyTorch's own pieces."""

import pytest
import torch

from finetune.arena import Arena, trainable


def make(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = torch.nn.Module()
    model.body = torch.nn.Linear(4, 3)
    model.frozen = torch.nn.Linear(3, 3).requires_grad_(False)
    model.head = torch.nn.Linear(3, 2)
    return model


def loss(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = model.head(model.frozen(model.body(x)).tanh()).square().sum()
    return result


def test_only_what_is_trained_is_taken_in() -> None:
    model = make()
    before = model.frozen.weight.clone()
    arena = Arena(model, 0.1, 0.0)
    assert arena.data.numel() == sum(p.numel() for p in trainable(model).values())
    loss(model, torch.ones(2, 4)).backward()
    arena.step(0.1, 1.0)
    assert torch.equal(model.frozen.weight, before)


@pytest.mark.parametrize("max_grad_norm", [1e-3, 1e3])
def test_it_trains_as_clipping_and_adamw_do(max_grad_norm: float) -> None:
    mine, theirs = make(), make()
    arena = Arena(mine, 0.01, 0.1)
    matrices = [p for p in trainable(theirs).values() if p.ndim == 2]
    vectors = [p for p in trainable(theirs).values() if p.ndim == 1]
    adamw = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01,
    )
    for i in range(5):
        x = torch.full((2, 4), float(i))
        loss(mine, x).backward()
        arena.step(0.01, max_grad_norm)
        adamw.zero_grad()
        loss(theirs, x).backward()
        torch.nn.utils.clip_grad_norm_(trainable(theirs).values(), max_grad_norm)
        adamw.step()
    for name, parameter in trainable(mine).items():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), atol=1e-6, rtol=1e-5)


def test_the_head_may_learn_faster() -> None:
    slow, fast = make(), make()
    one, ten = Arena(slow, 0.01, 0.0), Arena(fast, 0.01, 0.0, head_rate_ratio=10.0)
    before = slow.head.weight.detach().clone()
    for model, arena in ((slow, one), (fast, ten)):
        loss(model, torch.ones(2, 4)).backward()
        arena.step(0.01, 1e9)
    torch.testing.assert_close(fast.body.weight, slow.body.weight)
    moved_slow, moved_fast = slow.head.weight - before, fast.head.weight - before
    torch.testing.assert_close(moved_fast, 10 * moved_slow, atol=1e-5, rtol=1e-3)


def test_a_step_begins_a_new_gradient() -> None:
    model = make()
    arena = Arena(model, 0.1, 0.0)
    loss(model, torch.ones(2, 4)).backward()
    assert arena.grad.abs().sum() > 0
    arena.step(0.1, 1.0)
    assert arena.grad.abs().sum() == 0
    assert model.body.weight.grad is not None
    assert model.body.weight.grad.abs().sum() == 0

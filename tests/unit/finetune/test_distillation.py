"""The loss with soft targets, and that a row without them is learned from its label alone."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune.batches import Batch
from finetune.objectives import OBJECTIVES, blended_loss

SINGLE, SEVERAL = "text-classification", "multi-label-classification"
NAN = float("nan")


def batch(targets: list[object], soft: list[list[float]] | None) -> Batch:
    none = torch.zeros(len(targets), 1, dtype=torch.int64)
    given = None if soft is None else torch.tensor(soft)
    return Batch(none, none, None, torch.tensor(targets), len(targets), given)


def output(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def test_without_soft_targets_it_is_the_tasks_loss() -> None:
    logits = output(2)
    for soft in (None, [[NAN] * 3, [NAN] * 3]):
        found = blended_loss(SINGLE, logits, batch([0, 2], soft), 0.7)
        assert found.item() == pytest.approx(cross_entropy(logits, torch.tensor([0, 2])).item())


def test_it_is_the_mean_of_what_each_row_has_by_itself() -> None:
    logits, soft = output(3), [[0.2, 0.3, 0.5], [NAN] * 3, [0.0, 1.0, 0.0]]
    whole = blended_loss(SINGLE, logits, batch([0, 2, 1], soft), 0.7)
    alone = [
        blended_loss(SINGLE, logits[i : i + 1], batch([[0, 2, 1][i]], [soft[i]]), 0.7)
        for i in range(3)
    ]
    assert whole.item() == pytest.approx(sum(loss.item() for loss in alone) / 3, rel=1e-5)
    hard = cross_entropy(logits[1:2], torch.tensor([2]))
    assert alone[1].item() == pytest.approx(hard.item())


def test_a_row_without_soft_targets_has_the_gradient_of_its_label() -> None:
    logits = output(2)
    soft = [[0.2, 0.3, 0.5], [NAN] * 3]
    blended_loss(SINGLE, logits, batch([0, 1], soft), 0.7).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    plain = output(2)
    OBJECTIVES[SINGLE].loss(plain, batch([0, 1], None)).backward()
    assert plain.grad is not None
    assert torch.allclose(logits.grad[1], plain.grad[1])
    assert not torch.allclose(logits.grad[0], plain.grad[0])


@pytest.mark.parametrize(
    ("task", "target", "soft"),
    [(SINGLE, 0, [0.2, 0.3, 0.5]), (SEVERAL, [1.0, 0.0, 0.0], [0.9, 0.5, 0.0])],
)
def test_the_teachers_own_answer_has_no_distillation_loss(
    task: str, target: object, soft: list[float]
) -> None:
    probabilities = torch.tensor([soft]).clamp(1e-6, 1 - 1e-6)
    logits = probabilities.log() if task == SINGLE else torch.logit(probabilities)
    rows = batch([target], [soft])
    hard = OBJECTIVES[task].loss(logits, rows)
    found = blended_loss(task, logits, rows, 0.7)
    assert found.item() == pytest.approx(0.3 * hard.item(), abs=1e-4)
    worse = blended_loss(task, torch.zeros(1, 3) + 9 * torch.tensor([1.0, -1, 1]), rows, 1.0)
    assert worse.item() > 0.5


def test_nan_survives_no_blend() -> None:
    assert np.isfinite(
        blended_loss(SEVERAL, output(1), batch([[1.0, 0, 0]], [[NAN] * 3]), 1).item()
    )

"""The learning rate, and what happens to a loss that is no number."""

import math

import pytest
import torch

from compress.students.compute import deterministic, has_fast_bf16
from compress.students.losses import Match
from compress.students.train import Course, Descent
from edgeloop.errors import ExportError
from tests.students_run import MEASURED

COURSE = Course("student-half", 2, 32, 0.1, "compress.students.learning_rate", Match(()))


def descent(steps: int = 100) -> Descent:
    return Descent(torch.nn.Linear(2, 2), COURSE, MEASURED, steps)


@pytest.mark.parametrize("steps", [2, 10, 1000])
def test_the_rate_rises_to_its_peak_and_falls_to_zero(steps: int) -> None:
    found = [descent(steps).rate(step) for step in range(steps + 1)]
    peak = found.index(max(found))
    assert max(found) == pytest.approx(COURSE.learning_rate)
    assert peak == math.ceil(steps * MEASURED.warmup_ratio)
    assert found == [*sorted(found[:peak]), *sorted(found[peak:], reverse=True)]
    assert found[-1] == 0.0
    assert all(rate > 0.0 for rate in found[:-1])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_says_what_to_lower(value: float) -> None:
    with pytest.raises(ExportError, match=r"epoch 3, step 1: .* lower .*learning_rate \(now 0\.1"):
        descent().step(torch.tensor(value), 3)


def test_vectors_are_not_decayed() -> None:
    layer = torch.nn.Linear(2, 2)
    bias, weight = layer.bias.detach().clone(), layer.weight.detach().clone()
    own = Descent(layer, COURSE, MEASURED, 10)
    own.step((layer.bias.sum() + layer.weight.sum()) * 0.0, 1)
    assert torch.equal(layer.bias, bias)
    assert (layer.weight.abs() < weight.abs()).all()


@pytest.mark.parametrize(
    ("flags", "fast"), [("fma avx2", False), ("avx512f avx512_bf16", True), ("amx_bf16", True)]
)
def test_bf16_is_for_processors_that_multiply_it(flags: str, fast: bool) -> None:
    assert has_fast_bf16(f"processor : 0\nflags\t\t: {flags}\n") is fast
    assert has_fast_bf16("") is False


def test_the_random_state_outside_a_lesson_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    with deterministic(0):
        first = torch.rand(3)
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(0):
        assert torch.equal(torch.rand(3), first)

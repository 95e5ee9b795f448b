"""The arithmetic of the static student."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.students.static import Bag, principal, ridge

TABLE = torch.randn(40, 8, generator=torch.manual_seed(0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.manual_seed(seed))


def ask(model: Bag, ids: list[int], padding: int = 0, pad: int = 0) -> torch.Tensor:
    with torch.inference_mode():
        mask = [1] * len(ids) + [0] * padding
        return model(torch.tensor([ids + [pad] * padding]), torch.tensor([mask]))[0]


@settings(deadline=None)  # the first pass through torch takes longer
@given(ids=st.lists(st.integers(0, 39), min_size=1, max_size=9), pad=st.integers(0, 39))
def test_padding_changes_nothing(ids: list[int], pad: int) -> None:
    model = Bag(TABLE.clone())
    torch.testing.assert_close(ask(model, ids), ask(model, ids, 5, pad), atol=1e-6, rtol=0)


@settings(deadline=None)  # as above
@given(ids=st.permutations([3, 5, 8, 13]))
def test_order_is_not_read(ids: list[int]) -> None:
    model = Bag(TABLE.clone())
    torch.testing.assert_close(ask(model, ids), ask(model, [3, 5, 8, 13]), atol=1e-6, rtol=0)


def test_the_vector_is_the_scaled_sum_and_never_nan() -> None:
    total = TABLE[[3, 5]].sum(dim=0)
    torch.testing.assert_close(ask(Bag(TABLE.clone()), [3, 5]), total / total.norm())
    empty = Bag(TABLE.clone())(torch.tensor([[3, 5]]), torch.zeros(1, 2, dtype=torch.int64))
    assert (empty == 0.0).all()


def test_principal_directions_keep_the_dot_products_of_flat_vectors() -> None:
    vectors = random(30, 3) @ random(3, 8, seed=1)  # of rank 3
    short = vectors @ principal(vectors, 3)
    torch.testing.assert_close(short @ short.T, vectors @ vectors.T, atol=1e-3, rtol=1e-3)
    directions = principal(vectors, 100)
    assert directions.shape == (8, 8)
    torch.testing.assert_close(directions.T @ directions, torch.eye(8), atol=1e-5, rtol=0)


def test_ridge_finds_a_linear_function() -> None:
    inputs, matrix = random(500, 6), random(6, 2, seed=1)
    assert (ridge(inputs, inputs @ matrix) - matrix).abs().max() < 0.05


def test_ridge_stands_columns_that_say_nothing() -> None:
    inputs = torch.cat([random(20, 2), torch.zeros(20, 1)], dim=1)
    assert ridge(inputs, inputs[:, :1])[2].item() == pytest.approx(0.0)

"""The small table reads like the whole one, and gives back what it learned."""

import numpy as np
import torch

from compress.students.seen import only_seen
from compress.students.static import Bag, Static


def test_seen_tokens_learn_and_the_others_stay() -> None:
    table = torch.randn(50, 4, generator=torch.manual_seed(0))
    bag = Bag(table.clone())
    module = Static(bag, None)
    ids = torch.tensor([[7, 7, 31], [31, 49, 0]])
    whole = bag.tokens(ids)
    with only_seen(module, np.array([31, 7, 49, 7])):
        assert bag.tokens.weight.shape == (4, 4)
        assert torch.equal(bag.tokens(ids), whole)
        with torch.no_grad():
            bag.tokens.weight += 1.0
    expected = table.clone()
    expected[[0, 7, 31, 49]] += 1.0
    assert torch.equal(bag.tokens.weight, expected)

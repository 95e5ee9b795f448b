"""Token vectors that the texts never read have no gradient: while a student learns, its table holds
only those that they do, which makes a step of AdamW several times cheaper."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from compress.modules import Exported


class SeenEmbedding(torch.nn.Module):  # type: ignore[misc]
    """The rows `seen` (sorted) of a table, looked up by the token ids of the whole one; an id that
    is not among them is read as the first."""

    def __init__(self, table: torch.nn.Embedding, seen: torch.Tensor) -> None:
        super().__init__()
        place = torch.zeros(table.num_embeddings, dtype=torch.int64)
        place[seen] = torch.arange(len(seen))
        self.register_buffer("place", place)
        self.weight = torch.nn.Parameter(table.weight.detach()[seen].clone())

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The vectors, (batch, seq, hidden)."""
        return torch.nn.functional.embedding(self.place[input_ids], self.weight)


@contextmanager
def only_seen(module: Exported, token_ids: NDArray[np.int64]) -> Iterator[None]:
    """Inside, the module's table is that of the tokens that are seen, and of token 0, the pad;
    afterwards it is whole again, with what they learned."""
    table = module.model.get_input_embeddings()
    seen = torch.from_numpy(np.union1d(token_ids, [0]))
    small = SeenEmbedding(table, seen)
    module.model.set_input_embeddings(small)
    try:
        yield
    finally:
        module.model.set_input_embeddings(table)
        with torch.no_grad():
            table.weight[seen] = small.weight

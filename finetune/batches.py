"""Encoded rows -> batches: rows of similar length together, padded to the longest of a batch,
in an order that follows from the seed and the epoch alone.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BATCHES_PER_BUCKET = 16
EVALUATION_BATCH_ROWS = 64
IGNORED = -100  # torch's cross_entropy leaves these targets out


@dataclass(frozen=True)
class Sequences:
    """Token ids per text or pair, its segment ids where it is a pair, and each token's characters
    in the first text (empty for special tokens and a second text)."""

    token_ids: list[list[int]]
    type_ids: list[list[int]] | None
    offsets: list[tuple[tuple[int, int], ...]]
    pad_id: int

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Encoded:
    """The rows of a split. Row i is made of the sequences `parts[i]`: one, or for text-embedding
    the anchor, its positive and its negatives.

    targets, per row: a class index, a 0/1 list over the classes, a tag index per token, or the
    document number of each part. `soft`: (rows, classes) probabilities to be distilled, or None; a
    row of NaN has none.
    """

    task: str
    sequences: Sequences
    parts: list[list[int]]
    targets: Sequence[Any]
    soft: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def tokens(self, row: int) -> int:
        """The longest of the row's sequences."""
        return max(len(self.sequences.token_ids[part]) for part in self.parts[row])


@dataclass(frozen=True)
class Batch:
    """input_ids, attention_mask and, for pairs, token_type_ids (batch, seq), int64; targets as the
    task has them: (batch,), (batch, classes), (batch, seq); for text-embedding the document number
    per sequence, anchors first, then positives, then negatives."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    token_type_ids: torch.Tensor | None
    targets: torch.Tensor
    rows: int
    soft: torch.Tensor | None = None

    def output(self, model: torch.nn.Module) -> torch.Tensor:
        """What the task's model answers."""
        output: torch.Tensor = model(self.input_ids, self.attention_mask, self.token_type_ids)
        return output.float()


def shuffled(encoded: Encoded, batch_rows: int, seed: int, epoch: int) -> Iterator[Batch]:
    """Every row once, in batches of similar length."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(encoded))
    bucket_rows = batch_rows * BATCHES_PER_BUCKET
    batches: list[list[int]] = []
    for start in range(0, len(order), bucket_rows):
        bucket = sorted(order[start : start + bucket_rows], key=encoded.tokens)
        batches += [bucket[i : i + batch_rows] for i in range(0, len(bucket), batch_rows)]
    for position in rng.permutation(len(batches)):
        yield make_batch(encoded, batches[position])


def in_order(encoded: Encoded) -> Iterator[Batch]:
    """Every row once, as they come."""
    positions = list(range(len(encoded)))
    for start in range(0, len(positions), EVALUATION_BATCH_ROWS):
        yield make_batch(encoded, positions[start : start + EVALUATION_BATCH_ROWS])


def make_batch(encoded: Encoded, positions: Sequence[int]) -> Batch:
    """The rows at these positions. Parts in turn: every row's first, every second, the rest."""
    parts = [encoded.parts[i] for i in positions]
    most = max(len(part) for part in parts)
    placed = [(r, turn) for turn in range(most) for r in range(len(parts)) if turn < len(parts[r])]
    chosen = [parts[row][turn] for row, turn in placed]
    sequences = encoded.sequences
    ids = _padded([sequences.token_ids[i] for i in chosen], sequences.pad_id)
    mask = _padded([[1] * len(sequences.token_ids[i]) for i in chosen], 0)
    types = sequences.type_ids
    return Batch(
        input_ids=ids,
        attention_mask=mask,
        token_type_ids=None if types is None else _padded([types[i] for i in chosen], 0),
        targets=TARGETS[encoded.task]([encoded.targets[i] for i in positions], placed),
        rows=len(positions),
        soft=None if encoded.soft is None else torch.from_numpy(encoded.soft[list(positions)]),
    )


def _as_they_are(targets: Sequence[Any], _: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(targets)


def _per_token(targets: Sequence[Any], _: Sequence[tuple[int, int]]) -> torch.Tensor:
    return _padded(targets, IGNORED)


def _per_part(targets: Sequence[Any], placed: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([targets[row][turn] for row, turn in placed])


TARGETS: dict[str, Callable[[Sequence[Any], Sequence[tuple[int, int]]], torch.Tensor]] = {
    "text-classification": _as_they_are,
    "multi-label-classification": _as_they_are,
    "token-classification": _per_token,
    "text-embedding": _per_part,
}


def _padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])

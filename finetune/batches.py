"""Rows -> batches of token ids: rows of similar length together, padded to the longest of a batch,
in an order that follows from the seed and the epoch alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from edgeloop.rows import Row

BATCHES_PER_BUCKET = 16
EVALUATION_BATCH_ROWS = 64


@dataclass(frozen=True)
class Encoded:
    """Token ids per row, each with the index of its label."""

    token_ids: list[list[int]]
    targets: list[int]
    pad_id: int

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Batch:
    """input_ids and attention_mask (batch, seq), targets (batch,), all int64."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    targets: torch.Tensor

    def logits(self, model: torch.nn.Module) -> torch.Tensor:
        """(batch, classes)."""
        logits: torch.Tensor = model(self.input_ids, self.attention_mask)
        return logits


def encode(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Encoded:
    """Tokenize; a text longer than max_tokens is cut at its end, as it is when served."""
    index = {label: position for position, label in enumerate(labels)}
    encoded = tokenizer(
        [row.text for row in rows],
        truncation=True,
        max_length=max_tokens,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
    )
    targets = [index[row.label] for row in rows]
    return Encoded(encoded["input_ids"], targets, int(tokenizer.pad_token_id))


def shuffled(encoded: Encoded, batch_rows: int, seed: int, epoch: int) -> Iterator[Batch]:
    """Every row once, in batches of similar length."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(encoded))
    bucket_rows = batch_rows * BATCHES_PER_BUCKET
    batches: list[list[int]] = []
    for start in range(0, len(order), bucket_rows):
        bucket = sorted(order[start : start + bucket_rows], key=lambda i: len(encoded.token_ids[i]))
        batches += [bucket[i : i + batch_rows] for i in range(0, len(bucket), batch_rows)]
    for position in rng.permutation(len(batches)):
        yield _batch(encoded, batches[position])


def in_order(encoded: Encoded) -> Iterator[Batch]:
    """Every row once, as they come."""
    positions = list(range(len(encoded)))
    for start in range(0, len(positions), EVALUATION_BATCH_ROWS):
        yield _batch(encoded, positions[start : start + EVALUATION_BATCH_ROWS])


def _batch(encoded: Encoded, positions: Sequence[int]) -> Batch:
    rows = [encoded.token_ids[i] for i in positions]
    longest = max(len(row) for row in rows)
    ids = [row + [encoded.pad_id] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    targets = [encoded.targets[i] for i in positions]
    return Batch(torch.tensor(ids), torch.tensor(mask), torch.tensor(targets))

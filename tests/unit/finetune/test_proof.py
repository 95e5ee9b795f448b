"""The proof of a merge looks at every row, and at nothing that is padding."""

import pytest
import torch

from edgeloop.errors import MergeError
from finetune.batches import EVALUATION_BATCH_ROWS, Encoded, Sequences
from finetune.proof import answers, prove

ROWS = EVALUATION_BATCH_ROWS + 6  # two batches, padded to different lengths
LENGTHS = [2 + row % 5 if row < EVALUATION_BATCH_ROWS else 9 for row in range(ROWS)]


class Reader(torch.nn.Module):  # type: ignore[misc]
    """Logits from token ids, (batch, seq, 3) or summed over the tokens, (batch, 3)."""

    def __init__(self, per_token: bool, shift: float = 0.0) -> None:
        super().__init__()
        self.per_token = per_token
        self.shift = shift

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor | None
    ) -> torch.Tensor:
        logits = torch.nn.functional.one_hot(ids % 3, 3).float()
        logits[..., 0] += self.shift * (mask == 1)
        return logits if self.per_token else (logits * mask.unsqueeze(-1)).sum(dim=1)


def rows(task: str) -> Encoded:
    ids = [[1 + (row + i) % 7 for i in range(length)] for row, length in enumerate(LENGTHS)]
    offsets: list[tuple[tuple[int, int], ...]] = [() for _ in ids]
    targets = [[0] * length for length in LENGTHS] if task == "token-classification" else [0] * ROWS
    return Encoded(task, Sequences(ids, None, offsets, 0), [[i] for i in range(ROWS)], targets)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_batches_of_every_length_are_compared(task: str) -> None:
    model = Reader(task == "token-classification")
    parity = prove(model, model, rows(task), 1e-4)
    assert parity.rows == ROWS
    assert parity.max_abs_difference == 0.0
    assert parity.argmax_agreement_ratio == 1.0


def test_a_taggers_padding_is_not_among_its_answers() -> None:
    outputs = answers(Reader(per_token=True), rows("token-classification"))
    assert sum(len(output) for output in outputs) == sum(LENGTHS)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_difference_is_refused(task: str) -> None:
    per_token = task == "token-classification"
    with pytest.raises(MergeError, match="outputs differ by"):
        prove(Reader(per_token), Reader(per_token, shift=0.5), rows(task), 1e-4)


def test_not_a_number_is_refused() -> None:
    with pytest.raises(MergeError, match="outputs differ by nan"):
        prove(Reader(False), Reader(False, shift=float("nan")), rows("text-classification"), 1e-4)

"""Is model.onnx the same model? Checked against torch on a grid of shapes and on real rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.merged import Merged
from edgeloop.errors import ExportError
from edgeloop.records import Parity
from edgeloop.rows import TextInput
from edgeloop.runtime import Encoded, OnnxModel, RowOutput, split_rows

TOLERANCE = 1e-4
# (batch, seq): single token, odd lengths, batches with padding. Longer than the model takes: cut.
GRID = ((1, 1), (1, 7), (3, 40), (2, 24), (5, 90))


@dataclass(frozen=True)
class Expected:
    """Texts or pairs, their tokens by the merged folder's tokenizer and torch's answers to them."""

    texts: Sequence[TextInput]
    encoded: Sequence[Encoded]
    outputs: Sequence[RowOutput]


def check_parity(merged: Merged, model: OnnxModel, expected: Expected, where: Path) -> Parity:
    """Compare on the grid and on the texts; `argmax_agreement_ratio` is the share of texts whose
    every largest logit is the same one (1 for a model without logits).

    Raises ExportError where token ids differ, or logits or embeddings by more than TOLERANCE.
    """
    for shape in GRID:
        _check_shape(merged, model, shape, where)
    found = [
        _answer(model, text, encoded, where)
        for text, encoded in zip(expected.texts, expected.encoded, strict=True)
    ]
    pairs = list(zip(found, expected.outputs, strict=True))
    difference = max(row_difference(a, b) for a, b in pairs)
    _refuse(difference, f"{len(pairs)} real texts", where)
    return Parity(
        rows=len(pairs),
        max_abs_difference=difference,
        argmax_agreement_ratio=float(np.mean([_same_choice(a, b) for a, b in pairs])),
        tolerance=TOLERANCE,
    )


def row_difference(found: RowOutput, expected: RowOutput) -> float:
    """The largest difference of any number of two answers: infinity where the shapes differ, NaN
    where a number is NaN."""
    return max_difference(((found.logits, expected.logits), (found.embedding, expected.embedding)))


def max_difference(
    pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> float:
    """See row_difference."""
    if any(found.shape != expected.shape for found, expected in pairs):
        return float("inf")
    differences = [np.abs(found - expected).reshape(-1) for found, expected in pairs]
    return float(np.concatenate(differences).max())


def _same_choice(found: RowOutput, expected: RowOutput) -> bool:
    if not expected.logits.size:
        return True
    return bool((found.logits.argmax(axis=-1) == expected.logits.argmax(axis=-1)).all())


def _check_shape(merged: Merged, model: OnnxModel, shape: tuple[int, int], where: Path) -> None:
    batch, seq = shape[0], min(shape[1], merged.most_tokens)
    rng = np.random.default_rng(seq)
    ids = rng.integers(0, merged.vocabulary, (batch, seq), dtype=np.int64)
    lengths = np.linspace(seq, max(seq // 2, 1), batch).astype(np.int64)  # padded but for the first
    mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)
    # The second half of a row is of the second text, as in a pair.
    types = ((np.arange(seq) >= lengths[:, None] // 2) & (mask == 1)).astype(np.int64)
    offsets = tuple(((0, 1),) * int(length) for length in lengths)
    encoded = Encoded(ids, mask, types, tuple(lengths.tolist()), (False,) * batch, offsets)
    found, expected = (split_rows(encoded, m.run(encoded)) for m in (model, merged))
    for a, b in zip(found, expected, strict=True):
        _refuse(row_difference(a, b), f"a batch of {batch}x{seq} tokens", where)


def _answer(model: OnnxModel, text: TextInput, expected: Encoded, where: Path) -> RowOutput:
    encoded = model.encode([text])
    for name, ids in expected.feed().items():
        found = encoded.feed()[name]
        if found.tolist() != ids.tolist():
            raise ExportError(
                f"{where}: tokenizer.json gives {name} {found[0].tolist()} for {str(text)[:60]!r}, "
                f"the merged folder's tokenizer {ids[0].tolist()}; save the tokenizer again as a "
                "fast one"
            )
    return split_rows(encoded, model.run(encoded))[0]


def _refuse(difference: float, what: str, where: Path) -> None:
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise ExportError(
            f"{where}: differs from the merged model by {difference:.2g} on {what}, {TOLERANCE:g} "
            "is allowed; nothing was made from it. Export with another torch or transformers"
        )

"""Is model.onnx the same model? Checked against torch on a grid of shapes and on real rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compress.merged import Merged
from edgeloop.errors import ExportError
from edgeloop.records import Parity
from edgeloop.runtime import Encoded, OnnxModel

TOLERANCE = 1e-4
# (batch, seq): single token, odd lengths, batches with padding. Longer than the model takes: cut.
GRID = ((1, 1), (1, 7), (3, 40), (2, 24), (5, 90))


def check_parity(
    merged: Merged,
    model: OnnxModel,
    texts: Sequence[str],
    encoded: Sequence[Sequence[int]],
    reference: NDArray[np.float32],
    where: Path,
) -> Parity:
    """Compare on the grid and on `texts`, whose ids by the merged folder's tokenizer are `encoded`
    and whose torch logits are `reference` (rows, classes).

    Raises ExportError where token ids differ or logits differ by more than TOLERANCE.
    """
    for shape in GRID:
        _check_shape(merged, model, shape, where)
    logits = np.concatenate(
        [_answer(model, t, e, where) for t, e in zip(texts, encoded, strict=True)]
    )
    difference = float(np.abs(logits - reference).max())
    _refuse(difference, f"{len(texts)} real rows", where)
    return Parity(
        rows=len(texts),
        max_abs_difference=difference,
        argmax_agreement_ratio=float(np.mean(logits.argmax(axis=1) == reference.argmax(axis=1))),
        tolerance=TOLERANCE,
    )


def _check_shape(merged: Merged, model: OnnxModel, shape: tuple[int, int], where: Path) -> None:
    batch, seq = shape[0], min(shape[1], merged.most_tokens)
    rng = np.random.default_rng(seq)
    ids = rng.integers(0, merged.vocabulary, (batch, seq), dtype=np.int64)
    lengths = np.linspace(seq, max(seq // 2, 1), batch).astype(np.int64)  # padded but for the first
    mask = (np.arange(seq) < lengths[:, None]).astype(np.int64)
    output = model.run(Encoded(ids, mask, tuple(lengths.tolist()), (False,) * batch))
    logits, embedding = merged.forward(ids, mask)
    for found, expected in ((output.logits, logits), (output.embedding, embedding)):
        _refuse(float(np.abs(found - expected).max()), f"a batch of {batch}x{seq} tokens", where)


def _answer(model: OnnxModel, text: str, ids: Sequence[int], where: Path) -> NDArray[np.float32]:
    encoded = model.encode([text])
    if encoded.input_ids[0].tolist() != list(ids):
        raise ExportError(
            f"{where}: tokenizer.json gives {encoded.input_ids[0].tolist()} for {text[:60]!r}, the "
            f"merged folder's tokenizer {list(ids)}; save the tokenizer again as a fast one"
        )
    return model.run(encoded).logits


def _refuse(difference: float, what: str, where: Path) -> None:
    if not difference <= TOLERANCE:  # NaN is refused as well
        raise ExportError(
            f"{where}: differs from the merged model by {difference:.2g} on {what}, {TOLERANCE:g} "
            "is allowed; nothing was made from it. Export with another torch or transformers"
        )

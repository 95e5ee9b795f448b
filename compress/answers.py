"""Answers of any task as plain arrays, so that a measuring process can hand them back in a file.

logits      all rows' one after another, flat        tokens      tokens per row
width       logits per token or row                  is_tagger   one row of logits per token?
embedding   (rows, hidden)                           offsets     (all rows' tokens, 2)
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeloop.runtime import RowOutput


def pack(outputs: Sequence[RowOutput]) -> dict[str, Any]:
    """Arrays by name. Raises ValueError where there is no row."""
    offsets = [offset for output in outputs for offset in output.offsets]
    return {
        "logits": np.concatenate([output.logits.reshape(-1) for output in outputs]),
        "width": np.array(outputs[0].logits.shape[-1]),
        "is_tagger": np.array(outputs[0].logits.ndim == 2),
        "embedding": np.stack([output.embedding for output in outputs]),
        "tokens": np.array([len(output.offsets) for output in outputs], dtype=np.int64),
        "offsets": np.array(offsets, dtype=np.int64).reshape(-1, 2),
    }


def unpack(arrays: Mapping[str, NDArray[Any]]) -> list[RowOutput]:
    """The outputs that were packed. Raises KeyError or ValueError for something else."""
    tokens, width = arrays["tokens"], int(arrays["width"])
    is_tagger = bool(arrays["is_tagger"])
    sizes = tokens * width if is_tagger else np.full(len(tokens), width)
    logits = np.split(arrays["logits"], np.cumsum(sizes)[:-1])
    offsets = np.split(arrays["offsets"], np.cumsum(tokens)[:-1])
    return [
        RowOutput(
            logits=own.reshape(count, width) if is_tagger else own,
            embedding=embedding,
            offsets=tuple((int(start), int(end)) for start, end in characters),
        )
        for own, count, embedding, characters in zip(
            logits, tokens.tolist(), arrays["embedding"], offsets, strict=True
        )
    ]

"""Whether a candidate answers a text alike whatever happens beside it: dynamic int8, for one, takes
the scale of its activations from the whole batch, padding included.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeloop.records_compress import Change, Invariance
from edgeloop.rows import TextInput
from edgeloop.runtime import Encoded, OnnxModel, RowOutput, load_tokenizer, split_rows
from edgeloop.tasks import Task, is_right

BATCH_ROWS = 8
PADDED_TOKENS = 64
THREADS = 2


def measure_invariance(
    model: Path,
    tokenizer: Path,
    texts: Sequence[TextInput],
    task: Task,
    labels: Sequence[str],
    max_tokens: int,
) -> Invariance:
    """Answer every text alone, in a batch of BATCH_ROWS, padded to PADDED_TOKENS (or max_tokens)
    and with THREADS threads. Raises EngineError where the candidate does not load or answer."""
    one = OnnxModel(model, tokenizer, max_tokens)
    more = OnnxModel(model, tokenizer, max_tokens, threads=THREADS)
    encoded = [one.encode([text]) for text in texts]
    alone = [_answer(one, row) for row in encoded]
    length = min(PADDED_TOKENS, max_tokens)
    padding = load_tokenizer(tokenizer, max_tokens).padding or {}
    pad_id = int(padding.get("pad_id", 0))
    padded = [_answer(one, _pad(row, length, pad_id)) for row in encoded]
    threaded = [_answer(more, row) for row in encoded]
    return Invariance(
        rows=len(texts),
        batch=_change(alone, _in_batches(one, texts), task, labels),
        padding=_change(alone, padded, task, labels),
        threads=_change(alone, threaded, task, labels),
    )


def _answer(model: OnnxModel, encoded: Encoded) -> RowOutput:
    return split_rows(encoded, model.run(encoded))[0]


def _in_batches(model: OnnxModel, texts: Sequence[TextInput]) -> list[RowOutput]:
    """Texts that stand far apart share a batch, so that it has all kinds."""
    batches = -(-len(texts) // BATCH_ROWS)
    found: dict[int, RowOutput] = {}
    for first in range(batches):
        numbers = range(first, len(texts), batches)
        encoded = model.encode([texts[i] for i in numbers])
        found |= dict(zip(numbers, split_rows(encoded, model.run(encoded)), strict=True))
    return [found[i] for i in range(len(texts))]


def _pad(encoded: Encoded, length: int, pad_id: int) -> Encoded:
    """The one row of a batch with padding up to `length` tokens."""
    more = max(length - encoded.input_ids.shape[1], 0)
    width = ((0, 0), (0, more))
    return replace(
        encoded,
        input_ids=np.pad(encoded.input_ids, width, constant_values=pad_id),
        attention_mask=np.pad(encoded.attention_mask, width),
        token_type_ids=np.pad(encoded.token_type_ids, width),
    )


def _change(
    alone: Sequence[RowOutput],
    other: Sequence[RowOutput],
    task: Task,
    labels: Sequence[str],
) -> Change:
    pairs = list(zip(alone, other, strict=True))
    return Change(
        max_change=max((_difference(a, b) for a, b in pairs), default=0.0),
        flips=sum(not is_right(task.answer(a, labels), task.answer(b, labels)) for a, b in pairs),
    )


def _difference(one: RowOutput, other: RowOutput) -> float:
    """Of the logits, or of the embedding where there are none."""
    a, b = (o.logits if o.logits.size else o.embedding for o in (one, other))
    return float(np.abs(a - b).max())

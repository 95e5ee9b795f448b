"""Rows -> token ids and the task's targets."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase

from edgeloop.rows import Row, TextInput
from finetune.batches import IGNORED, Encoded, Sequences

# The sequences, and what each row is to be learned as (finetune.batches.Encoded.targets).
Parts = tuple[Sequences, list[Any]]


def tokenize(
    inputs: Sequence[TextInput], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> Sequences:
    """Tokenize texts or pairs; what is longer than max_tokens is cut at its end, as it is when
    served."""
    pairs = any(not isinstance(text, str) for text in inputs)
    encoded: BatchEncoding = tokenizer(
        list(inputs),
        truncation=True,
        max_length=max_tokens,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=pairs,
        return_offsets_mapping=False,
    )
    return Sequences(
        token_ids=encoded["input_ids"],
        type_ids=encoded["token_type_ids"] if pairs else None,
        offsets=[_offsets(encoded, i) for i in range(len(inputs))],
        pad_id=int(tokenizer.pad_token_id),
    )


def _offsets(encoded: BatchEncoding, row: int) -> tuple[tuple[int, int], ...]:
    one = encoded.encodings[row]
    return tuple(
        offset if sequence == 0 else (0, 0)
        for offset, sequence in zip(one.offsets, one.sequence_ids, strict=True)
    )


def encode(
    rows: Sequence[Row],
    task: str,
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Encoded:
    """A split's rows as token ids with the task's targets."""
    sequences, targets = ENCODERS[task](rows, labels, tokenizer, max_tokens)
    parts = targets if task == "text-embedding" else [[i] for i in range(len(rows))]
    return Encoded(task, sequences, parts, targets)


def _encode_classes(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Parts:
    index = {label: position for position, label in enumerate(labels)}
    sequences = tokenize([row.input for row in rows], tokenizer, max_tokens)
    targets = [index[row.labels[0]] for row in rows]
    return sequences, targets


def _encode_label_sets(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Parts:
    sequences = tokenize([row.input for row in rows], tokenizer, max_tokens)
    targets = [[float(label in row.labels) for label in labels] for row in rows]
    return sequences, targets


def _encode_tags(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Parts:
    sequences = tokenize([row.input for row in rows], tokenizer, max_tokens)
    targets = [
        token_tags(row, offsets, labels)
        for row, offsets in zip(rows, sequences.offsets, strict=True)
    ]
    return sequences, targets


def token_tags(row: Row, offsets: Sequence[tuple[int, int]], labels: Sequence[str]) -> list[int]:
    """BIO tag per token (edgeloop.tasks.TokenClassification's columns): a token that shares a
    character with a span is in it. Special tokens and a second text are ignored."""
    index = {label: position for position, label in enumerate(labels)}
    tags = []
    begun: set[int] = set()
    for start, end in offsets:
        if end <= start:
            tags.append(IGNORED)
            continue
        found = next((i for i, s in enumerate(row.spans) if start < s.end and s.start < end), None)
        if found is None or row.spans[found].label not in index:
            tags.append(0)
            continue
        tags.append(1 + 2 * index[row.spans[found].label] + (found in begun))
        begun.add(found)
    return tags


def _encode_pairs(
    rows: Sequence[Row],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
) -> Parts:
    """Every text once. The target of a part is its document's number: equal texts are equal
    documents, and none is the other's negative."""
    texts: dict[str, int] = {}
    parts = [
        [
            texts.setdefault(text, len(texts))
            for text in (row.text, row.text_pair or "", *row.negatives)
        ]
        for row in rows
    ]
    sequences = tokenize(list(texts), tokenizer, max_tokens)
    return sequences, parts


ENCODERS: dict[str, Callable[..., Parts]] = {
    "text-classification": _encode_classes,
    "multi-label-classification": _encode_label_sets,
    "token-classification": _encode_tags,
    "text-embedding": _encode_pairs,
}

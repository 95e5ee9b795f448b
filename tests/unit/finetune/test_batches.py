"""Rows -> token ids and targets -> batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from edgeloop.rows import Row, Span
from finetune.batches import IGNORED, Encoded, in_order, make_batch, shuffled
from finetune.encode import encode, token_tags
from tests import tiny

LABELS = ("billing", "delivery", "repair")


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerBase:
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(tiny_bert)
    return loaded


def rows(count: int = 30) -> list[Row]:
    return [Row(str(i), text, (label,)) for i, (text, label) in enumerate(tiny.sentences(count))]


@pytest.fixture(scope="module")
def classes(tokenizer: PreTrainedTokenizerBase) -> Encoded:
    return encode(rows(), "text-classification", LABELS, tokenizer, 32)


def test_every_row_comes_once_per_epoch(classes: Encoded) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    for batch in shuffled(classes, 4, seed=0, epoch=1):
        assert batch.rows <= 4
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
            seen[tuple(ids[mask == 1].tolist())] += 1
    assert seen == Counter(tuple(ids) for ids in classes.sequences.token_ids)


def test_the_order_follows_from_seed_and_epoch(classes: Encoded) -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        return [batch.targets.tolist() for batch in shuffled(classes, 4, seed, epoch)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_in_order_keeps_the_order(classes: Encoded) -> None:
    found = [target for batch in in_order(classes) for target in batch.targets.tolist()]
    assert found == [LABELS.index(row.labels[0]) for row in rows()]


def test_padding_is_masked(tokenizer: PreTrainedTokenizerBase) -> None:
    short_and_long = [
        Row("a", "late", ("delivery",)),
        Row("b", "late again and again", ("billing",)),
    ]
    encoded = encode(short_and_long, "text-classification", LABELS, tokenizer, 32)
    batch = make_batch(encoded, [0, 1])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    assert (batch.input_ids[0, 3:] == tokenizer.pad_token_id).all()
    assert batch.token_type_ids is None


def test_a_long_text_is_cut_at_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    encoded = encode(
        [Row("a", "late " * 50, ("billing",))], "text-classification", LABELS, tokenizer, 8
    )
    assert len(encoded.sequences.token_ids[0]) == 8


def test_a_pair_has_segments(tokenizer: PreTrainedTokenizerBase) -> None:
    pair = [Row("a", "late", ("billing",), text_pair="my card")]
    batch = make_batch(encode(pair, "text-classification", LABELS, tokenizer, 32), [0])
    assert batch.token_type_ids is not None
    assert batch.token_type_ids.shape == batch.input_ids.shape


def test_label_sets_are_zeros_and_ones(tokenizer: PreTrainedTokenizerBase) -> None:
    several = [Row("a", "late card", ("billing", "delivery")), Row("b", "hello")]
    batch = make_batch(encode(several, "multi-label-classification", LABELS, tokenizer, 32), [0, 1])
    assert batch.targets.tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_batch_of_texts_without_labels_keeps_its_shape(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    none = [Row("b", "hello")]
    batch = make_batch(encode(none, "multi-label-classification", LABELS, tokenizer, 32), [0])
    assert batch.targets.shape == (1, 3)
    assert batch.targets.dtype == torch.float32


def test_tokens_of_a_span_get_its_tags(tokenizer: PreTrainedTokenizerBase) -> None:
    row = Row("a", "my late parcel again", spans=(Span(3, 14, "delivery"),))
    batch = make_batch(encode([row], "token-classification", LABELS, tokenizer, 32), [0])
    assert batch.targets.tolist() == [[IGNORED, 0, 3, 4, 0, IGNORED]]


def test_tags_are_padded_with_what_the_loss_ignores(tokenizer: PreTrainedTokenizerBase) -> None:
    two = [Row("a", "late"), Row("b", "late again", spans=(Span(0, 4, "billing"),))]
    batch = make_batch(encode(two, "token-classification", LABELS, tokenizer, 32), [0, 1])
    assert batch.targets[0].tolist() == [IGNORED, 0, IGNORED, IGNORED]


def test_a_span_inside_a_word_tags_the_whole_token() -> None:
    row = Row("a", "7pm", spans=(Span(0, 1, "billing"),))
    assert token_tags(row, [(0, 0), (0, 3), (0, 0)], LABELS) == [IGNORED, 1, IGNORED]


def test_neighbouring_spans_of_one_type_stay_two() -> None:
    row = Row("a", "ab cd", spans=(Span(0, 2, "billing"), Span(3, 5, "billing")))
    assert token_tags(row, [(0, 2), (3, 5)], LABELS) == [1, 1]


def test_a_label_that_train_rows_lack_is_outside() -> None:
    row = Row("a", "ab", spans=(Span(0, 2, "unknown"),))
    assert token_tags(row, [(0, 2)], LABELS) == [0]


def test_pairs_come_as_anchors_then_positives_then_negatives(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    pairs = [
        Row("a", "late", text_pair="parcel late", negatives=("card", "tax")),
        Row("b", "leak", text_pair="parcel late"),
    ]
    encoded = encode(pairs, "text-embedding", (), tokenizer, 32)
    batch = make_batch(encoded, [0, 1])
    late, parcel, card, tax, leak = range(5)
    assert batch.targets.tolist() == [late, leak, parcel, parcel, card, tax]
    assert batch.input_ids.shape[0] == 6
    assert batch.rows == 2


def test_soft_targets_go_with_their_rows(classes: Encoded) -> None:
    soft = np.arange(len(classes) * 3, dtype=np.float32).reshape(-1, 3)
    encoded = Encoded(classes.task, classes.sequences, classes.parts, classes.targets, soft)
    batch = make_batch(encoded, [5, 2])
    assert batch.soft is not None
    assert batch.soft.tolist() == [soft[5].tolist(), soft[2].tolist()]

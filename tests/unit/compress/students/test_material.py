"""Texts as batches: every text once, padded, with the targets of its task."""

import numpy as np
import pytest
import torch

from compress.students.material import IGNORED, Material, _tags, _targets
from edgeloop.rows import Row, Span
from edgeloop.runtime import Encoded

OFFSETS = ((0, 0), (0, 3), (4, 7), (7, 9), (10, 12), (0, 0))


def encoded(ids: list[int], offsets: tuple[tuple[int, int], ...] | None = None) -> Encoded:
    row = np.array([ids], dtype=np.int64)
    places = offsets or tuple((i, i + 1) for i in range(len(ids)))
    return Encoded(row, np.ones_like(row), np.zeros_like(row), (len(ids),), (False,), (places,))


def material(lengths: list[int]) -> Material:
    """Text i is made of token i; its answer is i."""
    count = len(lengths)
    numbers = np.arange(count, dtype=np.float32)
    return Material(
        encoded=[encoded([i] * length) for i, length in enumerate(lengths)],
        labelled=count,
        targets=[np.array(i, dtype=np.float32) for i in numbers],
        logits=[np.full(2, i, dtype=np.float32) for i in numbers],
        embedding=torch.arange(count).float()[:, None],
        states=torch.arange(count).float()[:, None, None].to(torch.bfloat16),
    )


@pytest.mark.parametrize("count", [1, 7, 100])
def test_an_epoch_has_every_text_once_and_its_own_answers(count: int) -> None:
    given = material([1 + i % 5 for i in range(count)])
    batches = list(given.shuffled(4, seed=0, epoch=1))
    found = torch.cat([batch.targets for batch in batches]).tolist()
    assert sorted(found) == list(range(count))
    for batch in batches:
        assert len(batch.targets) <= 4
        mask = batch.feed["attention_mask"]
        for i, text in enumerate(batch.targets.int().tolist()):
            own = batch.feed["input_ids"][i][mask[i] == 1]
            assert own.tolist() == [text] * given.tokens(text)
            assert batch.logits[i].tolist() == [text, text]
            assert batch.embedding[i] == batch.states[i, 0] == text
            assert batch.spoken[i].tolist() == (mask[i] == 1).tolist()


def test_the_order_follows_from_seed_and_epoch() -> None:
    given = material([1 + i % 5 for i in range(100)])

    def order(seed: int, epoch: int) -> list[float]:
        return [float(t) for b in given.shuffled(4, seed, epoch) for t in b.targets]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_texts_of_a_batch_are_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 256).tolist()
    padded = sum(b.feed["input_ids"].numel() for b in material(lengths).shuffled(8, 0, 1))
    assert padded < 1.2 * sum(lengths)


def test_tokens_that_share_a_character_with_a_span_are_in_it() -> None:
    row = Row("1", "abc defgh ij", spans=(Span(4, 9, "b"), Span(10, 12, "a"), Span(0, 3, "new")))
    tags = _tags(row, encoded([1] * 6, OFFSETS), {"a": 0, "b": 1})
    assert tags.tolist() == [IGNORED, 0, 3, 4, 1, IGNORED]


def test_a_text_without_a_row_has_no_targets() -> None:
    both = [encoded([1] * 6, OFFSETS)] * 2
    rows = [Row("1", "abc defgh ij", ("b",))]
    labels = ("a", "b")
    single = _targets("text-classification", labels, rows, both)
    assert [float(t) for t in single] == [1.0, IGNORED]
    several = _targets("multi-label-classification", labels, rows, both)
    assert several[0].tolist() == [0.0, 1.0]
    assert np.isnan(several[1]).all()
    tags = _targets("token-classification", labels, rows, both)
    assert tags[0].tolist() == [IGNORED, 0, 0, 0, 0, IGNORED]
    assert (tags[1] == IGNORED).all()
    assert [t.size for t in _targets("text-embedding", (), rows, both)] == [0, 0]

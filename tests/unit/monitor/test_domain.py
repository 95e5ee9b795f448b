"""The domain classifier: its level, its power, and which words it may show."""

import math

import numpy as np
import pytest

from monitor.domain import (
    BUCKETS,
    LEAST_ROWS,
    hashed_ngrams,
    in_bins,
    rank_auc,
    separate,
    standardised,
    word_counts,
)


@pytest.mark.parametrize(("n", "m", "width"), [(60, 60, 5), (80, 40, 60), (30, 120, 200)])
def test_the_level_holds_without_drift(n: int, m: int, width: int) -> None:
    """Few rows and many features, where a careless test alarms most; four deviations."""
    rng = np.random.default_rng(width)
    p = []
    for run in range(300):
        rows = rng.normal(size=(n + m, width)).astype(np.float32)
        found = separate(rows[:n], rows[n:], run)
        assert found is not None
        p.append(found.p_value)
    for alpha in (0.01, 0.05, 0.2):
        most = alpha + 4.0 * math.sqrt(alpha * (1.0 - alpha) / 300)
        assert np.mean(np.array(p) <= alpha) <= most


def test_the_level_holds_on_texts() -> None:
    rng = np.random.default_rng(2)
    words = np.array([f"word{i}" for i in range(200)])
    p = []
    for run in range(60):
        texts = [" ".join(rng.choice(words, 6)) for _ in range(100)]
        found = separate(hashed_ngrams(texts[:50]), hashed_ngrams(texts[50:]), run)
        assert found is not None
        p.append(found.p_value)
    assert np.mean(np.array(p) <= 0.1) <= 0.1 + 4.0 * math.sqrt(0.1 * 0.9 / 60)


def test_a_shift_is_found_and_its_size_does_not_grow_with_the_rows() -> None:
    rng = np.random.default_rng(0)
    aucs = []
    for n in (200, 800):
        shifted = rng.normal(size=(n, 10)).astype(np.float32)
        shifted[:, 0] += 1.0
        found = separate(rng.normal(size=(n, 10)).astype(np.float32), shifted)
        assert found is not None
        assert found.p_value < 1e-6
        aucs.append(found.auc)
    # Normal scores one deviation apart: Phi(1 / sqrt 2) = 0.760.
    assert aucs == pytest.approx([0.760, 0.760], abs=0.05)


def test_texts_of_another_topic_are_told_apart_by_their_words() -> None:
    rng = np.random.default_rng(1)
    known, new = [f"known{i}" for i in range(40)], [f"new{i}" for i in range(40)]
    reference = [" ".join(rng.choice(known, 6)) for _ in range(200)]
    recent = [" ".join(rng.choice(known + new, 6)) for _ in range(200)]
    found = separate(hashed_ngrams(reference), hashed_ngrams(recent))
    assert found is not None
    assert found.auc > 0.9


def test_too_few_rows_say_nothing_and_equal_ones_are_chance() -> None:
    few, many = np.zeros((LEAST_ROWS - 1, 3), np.float32), np.zeros((50, 3), np.float32)
    assert separate(few, many) is None
    assert separate(many, few) is None
    same = separate(many, many)
    assert same is not None
    assert (same.auc, same.p_value) == (0.5, 1.0)


def test_auc_counts_ties_as_half_and_its_variance_is_that_of_ranks() -> None:
    auc, variance = rank_auc(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0]))
    assert auc == pytest.approx(4.5 / 6)
    assert variance == pytest.approx((6.0 - 6.0 / 20.0) / (12.0 * 6.0))
    assert rank_auc(np.ones(4), np.ones(4)) == (0.5, 0.0)


def test_hashed_texts_are_of_length_one_whatever_they_hold() -> None:
    rows = hashed_ngrams(["a b", "", "\ud800 x", "Ä ä"])
    assert rows.shape == (4, BUCKETS)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1.0, 0.0, 1.0, 1.0])


def test_numbers_are_read_by_their_bins_and_missing_ones_by_a_bin_of_their_own() -> None:
    rows = np.array([[0.0, np.nan], [2.0, 5.0]])
    found = in_bins(rows, [np.array([1.0]), np.empty(0)])
    assert found.tolist() == [[1, 0, 0, 0, 1], [0, 1, 0, 1, 0]]


def test_standardised_embeddings_share_mean_and_deviation() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(3.0, 2.0, size=(2, 100, 4)).astype(np.float32)
    second[:, 3] = first[:, 3] = 7.0
    both = np.concatenate(standardised(first, second))
    assert both.mean(axis=0) == pytest.approx(np.zeros(4), abs=1e-4)
    assert both.std(axis=0) == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-4)


def test_words_are_counted_by_rows_and_private_ones_left_out() -> None:
    counted = word_counts(["gas gas bottle", "order 4711 gas", "a@b.example gas"])
    assert counted["gas"] == 3
    assert not any("4711" in word or "@" in word for word in counted)

"""Retrieval figures agree with scikit-learn and with a slow reading of their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from edgeloop.errors import DatasetError
from edgeloop.rows import Row
from finetune.evaluation import retrieval
from finetune.evaluation.retrieval import corpus, dense, judge_ranking, rank


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 6))
    scaled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


rows_of_texts = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from("uvwxyz"),
        st.lists(st.sampled_from("klmnopqrs"), max_size=3),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=80, deadline=None)
@given(rows_of_texts, st.integers(0, 9))
def test_figures_are_their_definitions(texts: list[tuple[str, str, list[str]]], seed: int) -> None:
    rows = [
        Row(f"r{i}", anchor, text_pair=positive, negatives=tuple(negatives))
        for i, (anchor, positive, negatives) in enumerate(texts)
    ]
    found = corpus(rows)
    vectors = unit(np.random.default_rng(seed), len(found.texts))
    judged = judge_ranking(rank(found, dense(found, vectors)))
    place = {text: i for i, text in enumerate(found.texts)}
    documents = {row.text_pair for row in rows} | {n for row in rows for n in row.negatives}
    assert set(found.documents) == documents
    recall_at_1, recall_at_10, reciprocal, ndcg = [], [], [], []
    for anchor in dict.fromkeys(row.text for row in rows):
        relevant = {row.text_pair for row in rows if row.text == anchor}
        scores = {d: float(vectors[place[anchor]] @ vectors[place[d]]) for d in found.documents}
        ranked = sorted(scores, key=lambda d: -scores[d])
        hits = [i for i, d in enumerate(ranked, start=1) if d in relevant]
        recall_at_1.append(sum(i <= 1 for i in hits) / len(relevant))
        recall_at_10.append(sum(i <= 10 for i in hits) / len(relevant))
        reciprocal.append(1 / hits[0] if hits[0] <= 10 else 0.0)
        gains = [[float(d in relevant) for d in scores]]
        ndcg.append(ndcg_score(gains, [list(scores.values())], k=10) if len(scores) > 1 else 1.0)
    value = {name: measure.value for name, measure in judged.figures.items()}
    assert value["recall_at_1"] == pytest.approx(np.mean(recall_at_1))
    assert value["recall_at_10"] == pytest.approx(np.mean(recall_at_10))
    assert value["mrr_at_10"] == pytest.approx(np.mean(reciprocal))
    assert value["ndcg_at_10"] == pytest.approx(np.mean(ndcg))


def _pairs(count: int) -> list[Row]:
    return [Row(f"r{i}", f"q{i}", text_pair=f"d{i}") for i in range(count)]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = corpus(_pairs(50))
    vectors = unit(np.random.default_rng(0), 100)
    whole = rank(found, dense(found, vectors))
    monkeypatch.setattr(retrieval, "BLOCK_CELLS", 7 * 50)
    blocks = rank(found, dense(found, vectors))
    assert (blocks.ranks, blocks.top) == (whole.ranks, whole.top)
    assert blocks.margin == pytest.approx(whole.margin)


def test_equal_vectors_for_all_texts_find_nothing() -> None:
    found = corpus(_pairs(30))
    ranking = rank(found, dense(found, np.full((60, 4), 0.5)))
    judged = judge_ranking(ranking)
    assert {name: measure.value for name, measure in judged.figures.items()} == dict.fromkeys(
        ("recall_at_1", "recall_at_10", "mrr_at_10", "ndcg_at_10"), 0.0
    )
    assert all(top not in found.relevant[query] for query, top in enumerate(ranking.top))


def test_a_text_does_not_find_itself() -> None:
    """Rows in both directions: the anchor is another row's positive."""
    found = corpus([Row("1", "a", text_pair="b"), Row("2", "b", text_pair="a")])
    ranking = rank(found, dense(found, np.eye(2)))
    assert ranking.ranks == ((1,), (1,))


def test_the_margin_is_how_much_nearer_the_wrong_text_is() -> None:
    found = corpus([Row("1", "q", text_pair="right", negatives=("wrong",))])
    ranking = rank(found, dense(found, np.array([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]])))
    assert ranking.ranks == ((2,),)
    assert found.documents[ranking.top[0]] == "wrong"
    assert ranking.margin[0] == pytest.approx(0.2)


def test_a_row_without_its_positive_is_refused() -> None:
    with pytest.raises(DatasetError, match="row r9 has no positive"):
        corpus([Row("r9", "anchor")])

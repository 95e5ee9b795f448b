"""Baselines of text-embedding: other ways to find the text that belongs to a text."""

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer

from edgeloop.rows import Row
from finetune.baselines.fitted import (
    Fitted,
    Material,
    Score,
    embeddings,
    stored_bytes,
    word_weights,
)
from finetune.evaluation.judged import Judged
from finetune.evaluation.retrieval import Corpus, Similarity, corpus, dense, judge_ranking, rank


def tfidf(material: Material) -> Fitted:
    """Cosine of TF-IDF vectors of words and pairs of words, weights from the training rows."""
    vectorizer = word_weights()
    vectorizer.fit(corpus(material.train).texts)

    def judge(rows: Sequence[Row]) -> Judged:
        texts = corpus(rows)
        return judge_ranking(rank(texts, _sparse(texts, vectorizer)))

    return Fitted(
        judge=judge,
        answer_one=lambda row: vectorizer.transform([row.text]),
        size_bytes=stored_bytes(vectorizer),
    )


def _sparse(texts: Corpus, vectorizer: TfidfVectorizer) -> Similarity:
    queries = vectorizer.transform(texts.queries)
    documents = vectorizer.transform(texts.documents).T
    return lambda start, end: (queries[start:end] @ documents).toarray()


def frozen(material: Material) -> Fitted:
    """Cosine of the frozen base's embeddings."""
    return through(material.frozen, material.base_bytes)


def through(score: Score, size_bytes: int) -> Fitted:
    """Cosine of a model's embeddings."""

    def judge(rows: Sequence[Row]) -> Judged:
        texts = corpus(rows)
        return judge_ranking(rank(texts, dense(texts, embeddings(score(texts.texts)))))

    return Fitted(judge, lambda row: score([row.text]), size_bytes)

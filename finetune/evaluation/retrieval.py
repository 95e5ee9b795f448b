"""Figures of retrieval: each anchor of the rows is a query, every positive and negative of the rows
a document. Texts that occur several times are one query or one document.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.errors import DatasetError
from edgeloop.figures import Floats
from edgeloop.rows import Row
from finetune.evaluation.judged import Judged
from finetune.evaluation.measure import Integers, mean

DEPTH = 10
# Similarities that are held at once: 32 MB in float64.
BLOCK_CELLS = 4_000_000

# Similarities of queries start to end, to every document: (end - start, documents).
Similarity = Callable[[int, int], Floats]


@dataclass(frozen=True)
class Corpus:
    """`relevant` per query: the documents that belong to it. `row` per query: the first row that
    asks it."""

    queries: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: tuple[tuple[int, ...], ...]
    row: tuple[int, ...]

    @property
    def texts(self) -> list[str]:
        """Every text once: the queries, then the documents that are no query."""
        return list(dict.fromkeys([*self.queries, *self.documents]))


def corpus(rows: Sequence[Row]) -> Corpus:
    """Raises DatasetError where a row has no positive."""
    queries: dict[str, set[str]] = {}
    first: dict[str, int] = {}
    documents: dict[str, int] = {}
    for number, row in enumerate(rows):
        if row.text_pair is None:
            raise DatasetError(f"row {row.id} has no positive text; retrieval needs one per row")
        queries.setdefault(row.text, set()).add(row.text_pair)
        first.setdefault(row.text, number)
        for text in (row.text_pair, *row.negatives):
            documents.setdefault(text, len(documents))
    return Corpus(
        queries=tuple(queries),
        documents=tuple(documents),
        relevant=tuple(tuple(sorted(documents[t] for t in texts)) for texts in queries.values()),
        row=tuple(first.values()),
    )


def dense(corpus: Corpus, vectors: NDArray[np.floating]) -> Similarity:
    """Cosine of unit vectors, one per text of `corpus.texts`: (texts, hidden)."""
    place = {text: i for i, text in enumerate(corpus.texts)}
    queries = vectors[[place[text] for text in corpus.queries]]
    documents = vectors[[place[text] for text in corpus.documents]].T
    return lambda start, end: (queries[start:end] @ documents).astype(np.float64)


@dataclass(frozen=True)
class Ranking:
    """Per query: the rank of each relevant document (from 1), the document that came first, and by
    how much its similarity is above that of the best relevant one."""

    ranks: tuple[tuple[int, ...], ...]
    top: tuple[int, ...]
    margin: tuple[float, ...]


def rank(corpus: Corpus, similarity: Similarity) -> Ranking:
    """Ties count against the model, so that equal vectors for all texts find nothing. A document
    that is the query's own text is left out, unless it belongs to it."""
    own = {text: i for i, text in enumerate(corpus.documents)}
    block = max(1, BLOCK_CELLS // len(corpus.documents))
    ranks, top, margin = [], [], []
    for start in range(0, len(corpus.queries), block):
        scores = similarity(start, min(start + block, len(corpus.queries)))
        for row, query in zip(scores, range(start, start + len(scores)), strict=True):
            relevant = list(corpus.relevant[query])
            mine = own.get(corpus.queries[query])
            if mine is not None and mine not in relevant:
                row[mine] = -np.inf
            found = row[relevant]
            ranks.append(tuple(int(np.count_nonzero(row >= score)) for score in found))
            best = _first(row, relevant)
            top.append(best)
            margin.append(float(row[best] - found.max()))
    return Ranking(tuple(ranks), tuple(top), tuple(margin))


def _first(row: Floats, relevant: list[int]) -> int:
    """The highest document; among equals one that is not relevant."""
    best = np.flatnonzero(row == row.max())
    return int(next((i for i in best if i not in relevant), best[0]))


def judge_ranking(ranking: Ranking) -> Judged:
    """recall@1 and recall@10 (share of the relevant documents that are found), MRR@10 and nDCG@10
    (binary gains; Jarvelin and Kekalainen 2002), averaged over the queries."""
    return Judged(
        right=np.array([min(ranks) == 1 for ranks in ranking.ranks], dtype=bool),
        figures={
            "recall_at_1": mean(_recall(ranking, 1)),
            f"recall_at_{DEPTH}": mean(_recall(ranking, DEPTH)),
            f"mrr_at_{DEPTH}": mean(np.array([_reciprocal(min(ranks)) for ranks in ranking.ranks])),
            f"ndcg_at_{DEPTH}": mean(np.array([_ndcg(ranks) for ranks in ranking.ranks])),
        },
    )


def _recall(ranking: Ranking, depth: int) -> Floats:
    return np.array([sum(r <= depth for r in ranks) / len(ranks) for ranks in ranking.ranks])


def _reciprocal(first: int) -> float:
    return 1.0 / first if first <= DEPTH else 0.0


def _ndcg(ranks: Sequence[int]) -> float:
    ideal = _gain(np.arange(1, min(len(ranks), DEPTH) + 1))
    return _gain(np.array([r for r in ranks if r <= DEPTH])) / ideal


def _gain(ranks: Integers) -> float:
    return float(np.sum(1.0 / np.log2(ranks + 1.0)))

"""Baselines of text-classification and multi-label-classification."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeloop.rows import Row
from edgeloop.tasks import Answer
from finetune.baselines.fitted import (
    Answerer,
    Fitted,
    Material,
    choose,
    embeddings,
    from_answers,
    stored_bytes,
    word_weights,
)
from finetune.baselines.linear import (
    LOGISTIC_STRENGTHS,
    SVC_STRENGTHS,
    Linear,
    answerer,
    fit_linear,
    logistic,
    support_vectors,
)

NEIGHBOURS = (1, 3, 5, 10, 20)
# Similarities that are held at once: 16 MB in float32.
BLOCK_CELLS = 4_000_000


def majority(material: Material) -> Fitted:
    """The most frequent answer of the training rows, to everything."""
    counts = Counter(tuple(sorted(row.labels)) for row in material.train)
    labels = min(counts, key=lambda answer: (-counts[answer], answer))
    return from_answers(
        material.task,
        lambda rows: [Answer(labels=labels) for _ in rows],
        stored_bytes(labels),
    )


def tfidf(material: Material) -> Fitted:
    """TF-IDF of words and pairs of words, and a linear support vector machine."""
    vectorizer = word_weights()
    features = vectorizer.fit_transform(_texts(material.train))
    models = {c: fit_linear(support_vectors, c, features, material) for c in SVC_STRENGTHS}
    strength, answer = choose(
        material.task,
        material.validation,
        [
            (c, answerer(model, lambda rows: vectorizer.transform(_texts(rows))))
            for c, model in models.items()
        ],
    )
    size = stored_bytes(vectorizer, models[strength])
    return from_answers(material.task, answer, size, {"C": strength})


def _texts(rows: Sequence[Row]) -> list[str]:
    """A second text's words count as words of the row."""
    return [row.text if row.text_pair is None else f"{row.text}\n{row.text_pair}" for row in rows]


def probe(material: Material) -> Fitted:
    """Logistic regression on the frozen base's embeddings."""
    features = embeddings(material.train_states)
    held_out = embeddings(material.validation_states)
    models = {c: fit_linear(logistic, c, features, material) for c in LOGISTIC_STRENGTHS}
    strength, _ = choose(
        material.task,
        material.validation,
        [(c, answerer(model, lambda _: held_out)) for c, model in models.items()],
    )
    return from_answers(
        material.task,
        _through_base(material, models[strength]),
        material.base_bytes + stored_bytes(models[strength]),
        {"C": strength},
    )


def _through_base(material: Material, linear: Linear) -> Answerer:
    return answerer(linear, lambda rows: embeddings(material.frozen([row.input for row in rows])))


def neighbours(material: Material) -> Fitted:
    """The training rows that are nearest in the frozen base's space, by cosine, vote with their
    similarity as weight; how many of them is chosen on the validation rows."""
    memory = embeddings(material.train_states)
    votes = material.membership(material.train)
    held_out = embeddings(material.validation_states)
    counts = [k for k in NEIGHBOURS if k <= len(memory)]

    def answers(vectors: NDArray[np.float32], k: int) -> list[Answer]:
        return _elect(_vote(vectors, memory, votes, k), material)

    def over(vectors: NDArray[np.float32], k: int) -> Answerer:
        return lambda _: answers(vectors, k)

    chosen, _ = choose(material.task, material.validation, [(k, over(held_out, k)) for k in counts])
    return from_answers(
        material.task,
        lambda rows: answers(embeddings(material.frozen([row.input for row in rows])), int(chosen)),
        material.base_bytes + stored_bytes(memory, votes),
        {"k": chosen},
    )


def _vote(
    vectors: NDArray[np.float32], memory: NDArray[np.float32], votes: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """The weighted share of the k nearest that carry each label: (rows, labels)."""
    shares = np.zeros((len(vectors), votes.shape[1]))
    block = max(1, BLOCK_CELLS // len(memory))
    for start in range(0, len(vectors), block):
        similarity = vectors[start : start + block] @ memory.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.maximum(np.take_along_axis(similarity, nearest, axis=1), 1e-6)
        weight /= weight.sum(axis=1, keepdims=True)
        shares[start : start + block] = np.einsum("rk,rkl->rl", weight, votes[nearest])
    return shares


def _elect(shares: NDArray[np.float64], material: Material) -> list[Answer]:
    if material.task == "multi-label-classification":
        return [
            Answer(labels=tuple(n for n, s in zip(material.labels, row, strict=True) if s >= 0.5))
            for row in shares
        ]
    return [Answer(labels=(material.labels[int(i)],)) for i in shares.argmax(axis=1)]

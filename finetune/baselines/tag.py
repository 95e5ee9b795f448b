"""Baselines of token-classification."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeloop.rows import Row, Span
from edgeloop.runtime import RowOutput
from edgeloop.tasks import Answer, entity_runs
from finetune.baselines.fitted import Fitted, Material, from_answers, stored_bytes
from finetune.baselines.linear import SEED, fit_or_constant, logistic, predict

WORD = re.compile(r"\w+|[^\w\s]")
# Training tokens of the probe, drawn with a seed: the fit's time grows with them.
PROBE_TOKENS = 60_000
PROBE_STRENGTH = 1.0

Words = tuple[str, ...]
Places = list[tuple[int, int]]


def majority(material: Material) -> Fitted:
    """No entity anywhere, which is right for most tokens."""
    return from_answers(material.task, lambda rows: [Answer() for _ in rows], 0)


@dataclass(frozen=True)
class Dictionary:
    """Phrases in lower case and the entity type that they have in the training rows."""

    phrases: dict[Words, str]
    longest: int

    def find(self, text: str) -> tuple[Span, ...]:
        """The longest phrase at each word, from left to right, without overlap."""
        words, places = _words(text)
        spans, position = [], 0
        while position < len(words):
            end = self._match(words, position)
            if end is None:
                position += 1
                continue
            label = self.phrases[words[position:end]]
            spans.append(Span(places[position][0], places[end - 1][1], label))
            position = end
        return tuple(spans)

    def _match(self, words: Words, position: int) -> int | None:
        last = min(len(words), position + self.longest)
        ends = range(last, position, -1)
        return next((end for end in ends if words[position:end] in self.phrases), None)


def dictionary(material: Material) -> Fitted:
    """Phrases that are an entity at least every second time they occur in the training rows."""
    found = build_dictionary(material.train)
    return from_answers(
        material.task,
        lambda rows: [Answer(spans=found.find(row.text)) for row in rows],
        stored_bytes(found.phrases),
    )


def build_dictionary(rows: Sequence[Row]) -> Dictionary:
    """From the spans of training rows."""
    types: dict[Words, Counter[str]] = {}
    for row in rows:
        for span in row.spans:
            phrase, _ = _words(row.text[span.start : span.end])
            if phrase:
                types.setdefault(phrase, Counter())[span.label] += 1
    longest = max(map(len, types), default=0)
    seen = Counter(
        phrase for row in rows for phrase in _phrases(row.text, longest) if phrase in types
    )
    kept = {
        phrase: min(labels, key=lambda name: (-labels[name], name))
        for phrase, labels in types.items()
        if 2 * labels.total() >= seen[phrase]
    }
    return Dictionary(kept, longest)


def _phrases(text: str, longest: int) -> Iterator[Words]:
    words, _ = _words(text)
    for start in range(len(words)):
        for end in range(start + 1, min(len(words), start + longest) + 1):
            yield words[start:end]


def _words(text: str) -> tuple[Words, Places]:
    matches = list(WORD.finditer(text))
    return tuple(m.group().lower() for m in matches), [m.span() for m in matches]


def probe(material: Material) -> Fitted:
    """Logistic regression on the frozen base's token states, over the tags of BIO."""
    states, tags = _tokens(material)
    if len(tags) > PROBE_TOKENS:
        chosen = np.random.default_rng(SEED).choice(len(tags), PROBE_TOKENS, replace=False)
        states, tags = states[chosen], tags[chosen]
    estimator = fit_or_constant(logistic(PROBE_STRENGTH), states, tags)

    def answer(rows: Sequence[Row]) -> list[Answer]:
        outputs = material.frozen([row.input for row in rows])
        return [_read(predict(estimator, o.logits), o, material.labels) for o in outputs]

    return from_answers(material.task, answer, material.base_bytes + stored_bytes(estimator))


def _tokens(material: Material) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """States (tokens, hidden) and tags (tokens,) of the training rows' real tokens."""
    states, tags = [], []
    for row, output in zip(material.train, material.train_states, strict=True):
        real = [i for i, (start, end) in enumerate(output.offsets) if end > start]
        states.append(output.logits[real])
        tags.append(bio_tags(row.spans, [output.offsets[i] for i in real], material.labels))
    return np.concatenate(states), np.concatenate(tags)


def bio_tags(
    spans: Sequence[Span], offsets: Sequence[tuple[int, int]], labels: Sequence[str]
) -> NDArray[np.int64]:
    """Tags as edgeloop.tasks numbers them: 0 outside, 1 + 2 * label for the first token of a span,
    one more for its others. A token belongs to the span that it begins in."""
    tags = np.zeros(len(offsets), dtype=np.int64)
    for span in spans:
        inside = [i for i, (start, _) in enumerate(offsets) if span.start <= start < span.end]
        first = 1 + 2 * labels.index(span.label)
        for number, token in enumerate(inside):
            tags[token] = first if number == 0 else first + 1
    return tags


def _read(tags: NDArray[np.int64], output: RowOutput, labels: Sequence[str]) -> Answer:
    spans = [
        Span(output.offsets[first][0], output.offsets[last][1], labels[label])
        for first, last, label in entity_runs(tags.tolist(), output.offsets)
    ]
    return Answer(spans=tuple(spans))

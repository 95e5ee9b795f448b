"""The sources: which rows of which data set, scored by which model, and what can change in them.

banking77      the fine-tuned int8 bundle of 77 intents; its 3,080 test rows
banking77-62   the base and a linear probe of 62 intents on 4,000 rows; 15 intents are held out
restaurant8k   the base and a linear probe of slot sets on 4,000 rows
gsm8k          the base alone, an embedding model without classes
tickets        the base and a linear probe on the example's 1,032 train rows
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from bench.compress.parts import Setting as Compressed
from bench.monitor import texts
from bench.monitor.embed import Embedder, Vectors, base, fine_tuned
from bench.monitor.streams import MIX, Ids, Shift, Source
from bench.monitor.texts import Text
from edgeloop.runtime import softmax

SEED = 6
HELD_OUT_INTENTS = 15
CLUSTERS = 20
# Inverse strength of the probe's penalty: what sets its accuracy least apart from its confidence.
PROBE_C = 10.0
PROBE_ITERATIONS = 1_000
TYPOS, TRUNCATED, LANGUAGE, NEW, INTENTS = (
    *("typos", "truncated", "other language", "another data set", "held-out intents"),
)


@dataclass(frozen=True)
class Sizes:
    """How much of the data is used: None is all."""

    pool: int | None
    probe: int
    new: int
    changed: int


FULL = Sizes(pool=None, probe=4_000, new=1_000, changed=800)
QUICK = Sizes(pool=1_600, probe=800, new=300, changed=300)


@dataclass(frozen=True)
class Models:
    """What the texts are scored by, and where the data lies."""

    data: Path
    home: Path
    compressed: Compressed
    sizes: Sizes

    @property
    def base(self) -> Embedder:
        return base(self.home, [row.text for row in texts.tickets("train")])

    @property
    def fine_tuned(self) -> Embedder:
        return fine_tuned(self.home, self.compressed)


def make(name: str, models: Models) -> Source:
    """Embed what the source needs; what was embedded before is read."""
    return SOURCES[name](models)


def shifts(source: Source) -> list[Shift]:
    """What is done to this source's traffic."""
    new = [group for group in (NEW, INTENTS) if group in source.groups]
    found = [
        Shift(f"{share:.0%} {group}", group, share) for group in new for share in (0.05, 0.1, 0.3)
    ]
    found += [Shift(f"ramp 0-50% {group}", group, 0.5, ramp=True) for group in new]
    return [
        *found,
        Shift("half the class mix", MIX, 1.0),
        Shift("typos in 30% of words", TYPOS, 1.0),
        Shift("10% other language", LANGUAGE, 0.1),
        Shift("30% other language", LANGUAGE, 0.3),
        Shift("30% cut to 3 words", TRUNCATED, 0.3),
    ]


Score = Callable[[Vectors, Vectors], NDArray[np.float64]]


def _source(
    name: str,
    about: str,
    embedder: Embedder,
    score: Score,
    pool: Sequence[Text],
    groups: Mapping[str, Sequence[Text]],
    sizes: Sizes,
) -> Source:
    """Embed the pool, the groups and the changed rows in one table."""
    rng = random.Random(SEED)
    pool = rng.sample(pool, min(len(pool), sizes.pool or len(pool)))
    changed = rng.sample(range(len(pool)), min(sizes.changed, len(pool) // 2))
    blocks: dict[str, list[str]] = {
        **{n: [row.text for row in rng.sample(g, min(len(g), sizes.new))]
           for n, g in groups.items()},
        LANGUAGE: texts.other_language(),
        TYPOS: [texts.with_typos(pool[row].text, rng) for row in changed],
        TRUNCATED: [texts.truncated(pool[row].text) for row in changed],
    }  # fmt: skip
    every = [row.text for row in pool] + [text for block in blocks.values() for text in block]
    embeddings, logits = embedder.embed(every)
    ends = len(pool) + np.cumsum([len(block) for block in blocks.values()])
    ids = {
        block: np.arange(end - len(blocks[block]), end)
        for block, end in zip(blocks, ends.tolist(), strict=True)
    }
    was = np.array(changed, dtype=np.int64)
    variants = {block: (was, ids.pop(block)) for block in (TYPOS, TRUNCATED)}
    kinds = _kinds([row.label for row in pool], embeddings[: len(pool)])
    return Source(name, about, embeddings, score(embeddings, logits), kinds, ids, variants)


def _kinds(labels: Sequence[str], embeddings: Vectors) -> Ids:
    """The classes as numbers; clusters of embeddings where there are none."""
    if any(labels):
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    clusters: Ids = KMeans(CLUSTERS, n_init=1, random_state=SEED).fit_predict(embeddings)
    return clusters.astype(np.int64)


def _softmax(_: Vectors, logits: Vectors) -> NDArray[np.float64]:
    return softmax(logits)


def _one_class(embeddings: Vectors, _: Vectors) -> NDArray[np.float64]:
    return np.ones((len(embeddings), 1))


def _probe(embedder: Embedder, rows: Sequence[Text]) -> Score:
    """A linear probe trained on these rows."""
    embeddings, _ = embedder.embed([row.text for row in rows])
    probe = LogisticRegression(C=PROBE_C, max_iter=PROBE_ITERATIONS)
    probe.fit(embeddings, [row.label for row in rows])
    return lambda vectors, _: probe.predict_proba(vectors)


def _take(rows: Sequence[Text], count: int) -> tuple[list[Text], list[Text]]:
    """That many rows at random, and the others."""
    order = random.Random(SEED).sample(rows, len(rows))
    return order[:count], order[count:]


def _banking77(models: Models) -> Source:
    return _source(
        "banking77",
        "fine-tuned int8, 77 intents; test split",
        models.fine_tuned,
        _softmax,
        texts.banking77(models.data, "test"),
        {NEW: texts.restaurant8k(models.data)},
        models.sizes,
    )


def _banking77_62(models: Models) -> Source:
    rows = texts.banking77(models.data, "train", "test")
    intents = sorted({row.label for row in rows})
    held_out = set(random.Random(SEED).sample(intents, HELD_OUT_INTENTS))
    probe, pool = _take([row for row in rows if row.label not in held_out], models.sizes.probe)
    return _source(
        "banking77-62",
        "base int8 with a linear probe of 62 intents; both splits but for the probe's rows",
        models.base,
        _probe(models.base, probe),
        pool,
        {
            NEW: texts.restaurant8k(models.data),
            INTENTS: [row for row in rows if row.label in held_out],
        },
        models.sizes,
    )


def _restaurant8k(models: Models) -> Source:
    probe, pool = _take(texts.restaurant8k(models.data), models.sizes.probe)
    return _source(
        "restaurant8k",
        "base int8 with a linear probe of slot sets; both splits but for the probe's rows",
        models.base,
        _probe(models.base, probe),
        pool,
        {NEW: texts.banking77(models.data, "train")},
        models.sizes,
    )


def _gsm8k(models: Models) -> Source:
    return _source(
        "gsm8k",
        "base int8 without classes; the questions of both splits",
        models.base,
        _one_class,
        texts.gsm8k(models.data),
        {NEW: texts.restaurant8k(models.data)},
        models.sizes,
    )


def _tickets(models: Models) -> Source:
    return _source(
        "tickets",
        "base int8 with a linear probe of the example's 12 intents; reference, validation, test",
        models.base,
        _probe(models.base, texts.tickets("train")),
        texts.tickets("reference", "validation", "test"),
        {NEW: texts.tickets("shifted")},
        models.sizes,
    )


SOURCES: dict[str, Callable[[Models], Source]] = {
    "banking77": _banking77,
    "banking77-62": _banking77_62,
    "restaurant8k": _restaurant8k,
    "gsm8k": _gsm8k,
    "tickets": _tickets,
}

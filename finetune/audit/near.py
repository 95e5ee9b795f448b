"""Near-duplicate texts without a quadratic pass: MinHash bands name candidates, the exact Jaccard
ratio of their character 5-grams decides.

A band's bucket keeps its first BUCKET_TEXTS texts only, and of a text's candidates the MAX_VERIFIED
most alike are verified, so that many thousand texts of one template cost no more than others; among
those a pair may be missed. Elsewhere a pair at the ratio is a candidate with a probability of at
least RECALL.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

SHINGLE_CHARACTERS = 5
PERMUTATIONS = 128
RECALL = 0.99
BUCKET_TEXTS = 8
MAX_VERIFIED = 8
# Shingle sets that are kept: a bucket's texts are verified again and again.
CACHED_TEXTS = 2048
CACHED_CHARACTERS = 1000
# Four standard errors of an estimate of 0.9 from 128 permutations.
ESTIMATE_MARGIN = 0.11


@dataclass(frozen=True)
class NearTexts:
    """Pairs (earlier, later) of positions with their ratio, and the clusters that they form."""

    pairs: tuple[tuple[int, int, float], ...]
    clusters: tuple[tuple[int, ...], ...]


def shingles(text: str) -> set[str]:
    """The character 5-grams of a text; a shorter text is its own."""
    last = max(len(text) - SHINGLE_CHARACTERS, 0)
    return {text[i : i + SHINGLE_CHARACTERS] for i in range(last + 1)}


@lru_cache(maxsize=CACHED_TEXTS)
def _kept_shingles(text: str) -> set[str]:
    return shingles(text)


def jaccard(ours: set[str], theirs: set[str]) -> float:
    """Shared 5-grams over all 5-grams, in [0, 1]."""
    shared = len(ours & theirs)
    return shared / (len(ours) + len(theirs) - shared)


def bands(ratio: float) -> tuple[int, int]:
    """(bands, rows of a band) for PERMUTATIONS: the longest bands, that is the fewest candidates,
    with which a pair of this ratio is found with a probability of RECALL."""
    for length in range(PERMUTATIONS, 1, -1):
        number = PERMUTATIONS // length
        if 1.0 - (1.0 - ratio**length) ** number >= RECALL:
            return number, length
    return PERMUTATIONS, 1


def near_texts(texts: Sequence[str], ratio: float) -> NearTexts:
    """Near-duplicates among texts that differ from one another; their order decides nothing but
    which of more than BUCKET_TEXTS in one bucket are compared."""
    signatures = _signatures(texts)
    number, length = bands(ratio)
    buckets: dict[tuple[int, bytes], list[int]] = {}
    pairs = []
    for later, signature in enumerate(signatures):
        candidates: set[int] = set()
        for band in range(number):
            key = (band, signature[band * length : (band + 1) * length].tobytes())
            bucket = buckets.setdefault(key, [])
            candidates.update(bucket)
            if len(bucket) < BUCKET_TEXTS:
                bucket.append(later)
        if not candidates:
            continue
        ours = shingles(texts[later])
        for earlier in _likely(signatures, later, candidates, ratio):
            text = texts[earlier]
            short = len(text) <= CACHED_CHARACTERS
            exact = jaccard(_kept_shingles(text) if short else shingles(text), ours)
            if exact >= ratio:
                pairs.append((earlier, later, exact))
    return NearTexts(tuple(pairs), clusters([(a, b) for a, b, _ in pairs]))


def _signatures(texts: Sequence[str]) -> NDArray[np.uint64]:
    """(texts, PERMUTATIONS): MinHash values, of whatever integer width datasketch uses."""
    from datasketch import MinHash

    seed = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=crc32)
    rows = np.empty((len(texts), PERMUTATIONS), dtype=seed.hashvalues.dtype)
    for position, text in enumerate(texts):
        minhash = seed.copy()
        minhash.update_batch([shingle.encode("utf-8") for shingle in shingles(text)])
        rows[position] = minhash.hashvalues
    return rows


def _likely(
    signatures: NDArray[np.uint64], later: int, candidates: set[int], ratio: float
) -> list[int]:
    """The candidates whose estimated ratio does not rule them out; of many the most alike."""
    earlier = np.array(sorted(candidates))
    estimates = (signatures[earlier] == signatures[later]).mean(axis=1)
    most_alike = np.argsort(-estimates, kind="stable")[:MAX_VERIFIED]
    likely: list[int] = earlier[most_alike][
        estimates[most_alike] >= ratio - ESTIMATE_MARGIN
    ].tolist()
    return likely


def clusters(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Positions that are joined by pairs, each cluster and all of them in order."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for left, right in pairs:
        low, high = sorted((root(left), root(right)))
        parent[high] = low
    found: dict[int, list[int]] = {}
    for node in sorted(parent):
        found.setdefault(root(node), []).append(node)
    return tuple(tuple(members) for members in found.values())

"""The last rows of a replay, kept to explain an alarm with as the live observer does."""

import math
from collections.abc import Mapping

from edgeloop.rows import whole_text
from monitor.explain import Moved, nearest_centroid, what_moved
from monitor.reference import ReferenceData
from monitor.scored import Scored
from monitor.words import RECENT_ROWS, RecentRow, hash_ngrams, word_list

NOTHING_MOVED = Moved((), (), (), (), ())


class Kept:
    """Chunks of finite rows in order; those before the last RECENT_ROWS may be forgotten."""

    def __init__(self, reference: ReferenceData) -> None:
        self._reference = reference
        self._chunks: list[Scored] = []
        self._rows = 0

    def add(self, chunk: Scored) -> None:
        """Take a chunk."""
        self._chunks.append(chunk)
        self._rows += len(chunk)

    def forget(self) -> None:
        """Let the chunks go that lie before the last RECENT_ROWS rows."""
        while self._chunks and self._rows - len(self._chunks[0]) >= RECENT_ROWS:
            self._rows -= len(self._chunks.pop(0))

    def moved(self, rows: int, behind: int, ratios: Mapping[str, float]) -> Moved:
        """What moved in the last `rows` rows (RECENT_ROWS at most) before the last `behind`;
        `ratios`: each detector's evidence over its threshold."""
        stop = self._rows - behind
        start = max(stop - min(rows, RECENT_ROWS), 0)
        recent, at = list[RecentRow](), 0
        for chunk in self._chunks:
            wanted = slice(max(start - at, 0), max(stop - at, 0))
            recent += self._recent(chunk.at(wanted))
            at += len(chunk)
        return what_moved(recent, self._reference, ratios)

    def _recent(self, chunk: Scored) -> list[RecentRow]:
        family, centroids = self._reference.family, self._reference.fitted.centroids
        found = []
        for place, embedding in enumerate(chunk.embeddings):
            words = [] if chunk.texts is None else word_list(whole_text(chunk.texts[place]))
            predicted = int(chunk.probabilities[place].argmax())
            values = [math.nan] * len(family.names)
            if chunk.features is not None:
                values = chunk.features[place].tolist()
            # The class mix has its own place among what moved.
            values += [math.nan] * (len(family.scales) - len(values))
            ngrams = hash_ngrams(words, family.salt)
            cluster = nearest_centroid(centroids, embedding)
            found.append(RecentRow(frozenset(words), ngrams, predicted, cluster, tuple(values)))
        return found

"""What every peer's script reads and prints. Plain numpy, no import of edgeloop: the peers'
environments do not have it.

The npz holds embeddings (rows, hidden), confidence (rows,), reference (n,), the target
run length, and streams of row numbers: null (time, streams) and shift:NAME (time, streams).
"""

import json
import sys
import time

import numpy as np

SHIFT = "shift:"


class Streams:
    """A source's rows, its reference, its streams by name ("null" or a shift's), and the results
    that were found on them."""

    def __init__(self, most_null=None, most_shifted=None):
        with np.load(sys.argv[1]) as stored:
            self.embeddings = stored["embeddings"]
            self.confidence = stored["confidence"]
            self.reference = stored["reference"]
            self.target = int(stored["target"])
            self.by_name = {"null": stored["null"][:, :most_null]}
            for name in stored.files:
                if name.startswith(SHIFT):
                    self.by_name[name[len(SHIFT) :]] = stored[name][:, :most_shifted]
        self.results = []
        self.microseconds = {}

    def sequential(self, name, setting, usual, watch):
        """watch(row numbers of a stream) -> the place of its first alarm, or its length."""
        started, rows, first = time.perf_counter(), 0, {}
        for stream, ids in self.by_name.items():
            first[stream] = [int(watch(ids[:, at])) for at in range(ids.shape[1])]
            rows += sum(min(at + 1, len(ids)) for at in first[stream])
        self._add(name, setting, usual, first)
        self.microseconds[name] = 1e6 * (time.perf_counter() - started) / rows

    def windows(self, name, rows, score, settings):
        """score(row numbers of a window) -> number, in windows that do not overlap; the alarm is at
        the last row of the first window above a threshold: settings are (word, usual, it)."""
        started, scored, scores = time.perf_counter(), 0, {}
        for stream, ids in self.by_name.items():
            starts = range(0, len(ids) - rows + 1, rows)
            scores[stream] = np.array(
                [[score(ids[at : at + rows, own]) for at in starts] for own in range(ids.shape[1])]
            )
            scored += rows * scores[stream].size
        self.microseconds[name] = 1e6 * (time.perf_counter() - started) / scored
        for word, usual, threshold in settings:
            first = {
                stream: self._crossings(own > threshold, rows, len(self.by_name[stream]))
                for stream, own in scores.items()
            }
            self._add(name, word, usual, first)

    @staticmethod
    def _crossings(above, rows, length):
        ends = rows * (above.argmax(axis=1) + 1) - 1
        return np.where(above.any(axis=1), ends, length).tolist()

    def _add(self, name, setting, usual, first):
        self.results.append({"name": name, "setting": setting, "usual": usual, "first": first})

    def report(self):
        """Print all that was found as one line of JSON."""
        print(json.dumps({"results": self.results, "microseconds": self.microseconds}))

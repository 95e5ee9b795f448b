"""What every peer's script reads and prints. Plain numpy, no import of edgeloop: the peers'
environments do not have it.

The npz holds embeddings (rows, hidden), confidence (rows,), predicted (rows,), reference (n,) and
streams of row numbers: null (time, streams) and shift:NAME (time, streams).
"""

import json
import sys
import time


class Streams:
    """A source's rows, its reference, and its streams by name ("null" or a shift's)."""

    def __init__(self, path, most_null=None, most_shifted=None):
        import numpy as np

        with np.load(path) as stored:
            self.embeddings = stored["embeddings"]
            self.confidence = stored["confidence"]
            self.predicted = stored["predicted"]
            self.reference = stored["reference"]
            self.by_name = {"null": stored["null"][:, :most_null]}
            for name in stored.files:
                if name.startswith("shift:"):
                    self.by_name[name[len("shift:") :]] = stored[name][:, :most_shifted]

    def first_alarms(self, watch):
        """watch(row numbers of one stream) -> the row of its first alarm, or the stream's length;
        for every stream by name."""
        return {
            name: [int(watch(ids[:, stream])) for stream in range(ids.shape[1])]
            for name, ids in self.by_name.items()
        }

    def first_windows(self, score, rows):
        """score(row numbers of a window) -> number, for each tumbling window of `rows`: the scores
        of every stream by name."""
        return {
            name: [
                [float(score(ids[at : at + rows, stream]))
                 for at in range(0, len(ids) - rows + 1, rows)]
                for stream in range(ids.shape[1])
            ]
            for name, ids in self.by_name.items()
        }  # fmt: skip

    def crossings(self, scores, rows, threshold):
        """From window scores to first alarms: at the last row of the first window above."""
        found = {}
        for name, streams in scores.items():
            length = len(self.by_name[name])
            found[name] = [
                next((rows * (i + 1) - 1 for i, s in enumerate(own) if s > threshold), length)
                for own in streams
            ]
        return found


def report(results, seconds, rows):
    """Print what was found: `results` are (name, setting, whether that is the usual one, first
    alarms by stream name)."""
    print(
        json.dumps(
            {
                "results": [
                    {"name": n, "setting": s, "usual": u, "first": f} for n, s, u, f in results
                ],
                "microseconds_per_row": {
                    name: 1e6 * spent / rows[name] for name, spent in seconds.items()
                },
            }
        )
    )


def timed(work, *arguments):
    """What it returns, and its seconds."""
    started = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - started


def path():
    """The npz that the script was started with."""
    return sys.argv[1]

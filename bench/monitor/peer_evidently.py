"""evidently's drift of embeddings, in windows that do not overlap: the methods that its metric
calls, without the picture that it draws. Run by bench.monitor.peers in evidently's environment."""

import pandas as pd
from evidently.legacy.metrics.data_drift.embedding_drift_methods import mmd, model
from peer_streams import Streams

ROWS = 250
MOST_NULL, MOST_SHIFTED = 10, 10
# The first of each is evidently's default.
METHODS = {
    "domain classifier": (model, (0.55, 0.56, 0.57, 0.58, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)),
    "MMD": (mmd, (0.015, 5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3, 0.01, 0.02, 0.03)),
}


def main():
    streams = Streams(MOST_NULL, MOST_SHIFTED)
    for name, (method, thresholds) in METHODS.items():
        measure = method(threshold=thresholds[0])

        def score(ids, measure=measure):
            # A frame of its own: the classifier adds a column to what it is given.
            known = pd.DataFrame(streams.embeddings[streams.reference])
            return measure(pd.DataFrame(streams.embeddings[ids]), known)[0]

        settings = [(f"above {value:g}", value == thresholds[0], value) for value in thresholds]
        streams.windows(f"evidently {name}, {ROWS} rows", ROWS, score, settings)
    streams.report()


main()

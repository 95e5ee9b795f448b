"""alibi-detect's online MMD on the embeddings, at run lengths that it is asked for. Run by
bench.monitor.peers in alibi-detect's environment; its licence (BSL 1.1) allows that."""

import numpy as np
import torch
from alibi_detect.cd import MMDDriftOnline
from peer_streams import Streams, path, report, timed

MOST_NULL, MOST_SHIFTED = 4, 6
WINDOW_ROWS = 50
# The first is what is asked of every detector here. Its documentation wants ten times as many
# simulations as the run length.
RUN_LENGTHS = (5_000, 1_500)
SIMULATIONS_PER_ROW = 4


def main():
    torch.set_num_threads(1)
    streams = Streams(path(), MOST_NULL, MOST_SHIFTED)
    results, seconds, rows = [], {}, {}
    for wanted in RUN_LENGTHS:
        np.random.seed(0)
        torch.manual_seed(0)
        detector = MMDDriftOnline(
            streams.embeddings[streams.reference],
            ert=wanted,
            window_size=WINDOW_ROWS,
            backend="pytorch",
            n_bootstraps=SIMULATIONS_PER_ROW * wanted,
            verbose=False,
        )
        counted = [0]

        def watch(ids, detector=detector, counted=counted):
            detector.reset_state()
            for at, row in enumerate(ids):
                counted[0] += 1
                if detector.predict(streams.embeddings[row])["data"]["is_drift"]:
                    return at
            return len(ids)

        name = "alibi-detect online MMD"
        first, seconds[name] = timed(streams.first_alarms, watch)
        rows[name] = counted[0]
        results.append((name, f"run length {wanted}", wanted == RUN_LENGTHS[0], first))
    report(results, seconds, rows)


main()

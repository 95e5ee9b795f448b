"""alibi-detect's online MMD on the embeddings, at run lengths that it is asked for. Run by
bench.monitor.peers in alibi-detect's environment; its licence (BSL 1.1) allows that."""

import numpy as np
import torch
from alibi_detect.cd import MMDDriftOnline
from peer_streams import Streams

MOST_NULL, MOST_SHIFTED = 6, 6
WINDOW_ROWS = 50
# The first is what is asked of every detector here.
RUN_LENGTHS = (5_000, 2_000)
# Its documentation wants ten times as many simulations as rows in the run length.
SIMULATIONS_PER_ROW = 4


def main():
    torch.set_num_threads(1)
    streams = Streams(MOST_NULL, MOST_SHIFTED)
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

        def watch(ids, detector=detector):
            detector.reset_state()
            for at, row in enumerate(ids):
                if detector.predict(streams.embeddings[row])["data"]["is_drift"]:
                    return at
            return len(ids)

        usual = wanted == RUN_LENGTHS[0]
        streams.sequential(
            f"alibi-detect online MMD, {WINDOW_ROWS} rows", f"asked for {wanted}", usual, watch
        )
    streams.report()


main()

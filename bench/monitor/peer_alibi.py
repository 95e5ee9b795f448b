"""alibi-detect's online MMD on the embeddings, at the run length that is asked of every detector
here. Run by bench.monitor.peers in alibi-detect's environment; its licence (BSL 1.1) allows that.
"""

import numpy as np
import torch
from alibi_detect.cd import MMDDriftOnline
from peer_streams import Streams

MOST_NULL, MOST_SHIFTED = 6, 6
WINDOW_ROWS = 50
# Its documentation wants ten times as many simulations as rows in the run length.
SIMULATIONS_PER_ROW = 4


def main():
    torch.set_num_threads(1)
    np.random.seed(0)
    torch.manual_seed(0)
    streams = Streams(MOST_NULL, MOST_SHIFTED)
    detector = MMDDriftOnline(
        streams.embeddings[streams.reference],
        ert=streams.target,
        window_size=WINDOW_ROWS,
        backend="pytorch",
        n_bootstraps=SIMULATIONS_PER_ROW * streams.target,
        verbose=False,
    )

    def watch(ids):
        detector.reset_state()
        for at, row in enumerate(ids):
            if detector.predict(streams.embeddings[row])["data"]["is_drift"]:
                return at
        return len(ids)

    name = f"alibi-detect online MMD, {WINDOW_ROWS} rows"
    streams.sequential(name, f"asked for {streams.target}", True, watch)
    streams.report()


main()

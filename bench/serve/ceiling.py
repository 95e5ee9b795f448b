"""python MODEL_FOLDER TEXTS SECONDS THREADS: what the cores can do without any server.

So many threads, each with a session of one thread of its own, answer texts one by one, tokenizing
included. Needs numpy, onnxruntime and tokenizers alone. Prints texts per second.
"""

import sys
import threading
import time
from pathlib import Path

from peer_model import PeerModel


def main() -> None:
    """See the module."""
    folder, texts = Path(sys.argv[1]), Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    seconds, count = float(sys.argv[3]), int(sys.argv[4])
    models = [PeerModel(folder) for _ in range(count)]
    for model in models:
        for text in texts[:100]:
            model.predict(text)
    done = [0] * count
    end = time.perf_counter() + seconds

    def work(thread: int) -> None:
        while time.perf_counter() < end:
            models[thread].predict(texts[(done[thread] * count + thread) % len(texts)])
            done[thread] += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(done) / (time.perf_counter() - started))


if __name__ == "__main__":
    main()

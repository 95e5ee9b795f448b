"""edgeloop's own export and dynamic int8 alone, to be timed as the peers are.

python -m bench.compress.peer_edgeloop MERGED DATASET OUT MAX_TOKENS

Writes OUT/model.onnx and OUT/peer.json, the latter as the peers' scripts do.
"""

import json
import sys
import time
from pathlib import Path

from compress.export import export_merged
from compress.merged import load_merged
from compress.quantize.dynamic import dynamic_int8
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from edgeloop.rows import read_rows
from edgeloop.runtime import LOGITS


def main() -> None:
    """See the module."""
    merged, dataset, out, max_tokens = *map(Path, sys.argv[1:4]), int(sys.argv[4])
    started = time.monotonic()
    names = json.loads((merged / "config.json").read_text(encoding="utf-8"))["id2label"]
    exported = out / "exported.onnx"
    export_merged(load_merged(merged, [names[str(i)] for i in range(len(names))]), exported)
    export_seconds = time.monotonic() - started
    texts = [row.input for row in read_rows(dataset, "train")]
    dynamic_int8(Source(exported, merged / TOKENIZER, texts, max_tokens), out)
    document = {
        "model": MODEL,
        "output": LOGITS,
        "export_seconds": export_seconds,
        "note": "its export, then onnx-int8",
    }
    (out / "peer.json").write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()

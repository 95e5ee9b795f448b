"""optimum-onnx's export and dynamic int8, run by its own environment's Python.

PEER_PYTHON peer_optimum.py own MERGED OUT      its own export of a sentence-transformers folder
PEER_PYTHON peer_optimum.py given MODEL OUT     an exported fp32 model.onnx

Writes OUT/model_quantized.onnx, and OUT/peer.json with what was done.
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

from optimum.exporters.onnx import main_export
from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer


def main() -> None:
    """See the module."""
    mode, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    export_seconds, output = None, "logits"
    note = "ORTQuantizer, dynamic, per channel, its preset for the processor"
    if mode == "own":
        started = time.monotonic()
        exported = out / "exported"
        # The library's name is asked for, or the export ends at the encoder.
        main_export(
            str(source),
            exported,
            task="sentence-similarity",
            library_name="sentence_transformers",
            local_files_only=True,
        )
        export_seconds = time.monotonic() - started
        source, output = exported / "model.onnx", "sentence_embedding"
        note = f"main_export through sentence-transformers, then {note}"
    quantizer = ORTQuantizer(source)
    quantizer.quantize(save_dir=out, quantization_config=configuration())
    (out / f"{source.stem}_quantized.onnx").replace(out / "model_quantized.onnx")
    document = {
        "model": "model_quantized.onnx",
        "output": output,
        "export_seconds": export_seconds,
        "note": f"optimum-onnx {version('optimum-onnx')}: {note}",
    }
    (out / "peer.json").write_text(json.dumps(document), encoding="utf-8")


def configuration() -> object:
    """Its preset for this processor: dynamic, int8 weights per channel."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "avx512_vnni" in flags:
        return AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    return AutoQuantizationConfig.avx2(is_static=False, per_channel=True)


if __name__ == "__main__":
    main()

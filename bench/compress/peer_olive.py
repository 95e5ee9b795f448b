"""Olive's export and dynamic int8, run by its own environment's Python.

PEER_PYTHON peer_olive.py own MERGED OUT      its own export of encoder, pooling and head
PEER_PYTHON peer_olive.py given MODEL OUT     an exported fp32 model.onnx

Writes OUT/model_quantized.onnx, and OUT/peer.json with what was done. Olive imports this file a
second time, as the script that makes the model which it exports.
"""

import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Shape inference finds no types behind fused nodes, and onnxruntime's quantizer, which Olive calls,
# stops there without the default.
QUANTIZATION = {
    "type": "OnnxDynamicQuantization",
    "precision": "int8",
    "per_channel": True,
    "extra_options": {"DefaultTensorType": 1},
}


class Classifier(torch.nn.Module):
    """Mean of the last hidden state under the mask, scaled to length 1, and the linear head."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager"
        )
        tensors = load_file(folder / "3_Dense" / "model.safetensors")
        classes, hidden = tensors["linear.weight"].shape
        self.linear = torch.nn.Linear(hidden, classes)
        self.linear.load_state_dict({key.split(".")[-1]: tensors[key] for key in tensors})

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Logits (batch, classes)."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return self.linear(torch.nn.functional.normalize(mean, dim=-1))


def load_model(model_path: str) -> torch.nn.Module:
    """What Olive calls for its PyTorchModel."""
    return Classifier(Path(model_path)).eval()


def dummy_inputs(_: Any = None) -> dict[str, torch.Tensor]:
    """A batch that specialises neither axis."""
    ids = torch.arange(16).reshape(2, 8)
    return dict(zip(INPUTS, (ids, torch.ones_like(ids), torch.zeros_like(ids)), strict=True))


def main() -> None:
    """See the module."""
    from olive import run

    mode, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    export_seconds, note = None, "OnnxDynamicQuantization, int8, per channel"
    if mode == "own":
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        started = time.monotonic()
        _run(run, _torch_model(source), _export_passes(config), out / "exported")
        export_seconds = time.monotonic() - started
        source = _only_model(out / "exported")
        note = f"OnnxConversion, OrtTransformersOptimization, then {note}"
    given = {"type": "ONNXModel", "model_path": str(source)}
    _run(run, given, {"quantization": QUANTIZATION}, out / "quantized")
    shutil.copyfile(_only_model(out / "quantized"), out / "model_quantized.onnx")
    document = {
        "model": "model_quantized.onnx",
        "output": "logits",
        "export_seconds": export_seconds,
        "note": f"olive-ai {version('olive-ai')}: {note}",
    }
    (out / "peer.json").write_text(json.dumps(document), encoding="utf-8")


def _torch_model(folder: Path) -> dict[str, Any]:
    axes = {"0": "batch_size", "1": "sequence_length"}
    return {
        "type": "PyTorchModel",
        "model_path": str(folder),
        "model_script": str(Path(__file__).resolve()),
        "model_loader": "load_model",
        "dummy_inputs_func": "dummy_inputs",
        "io_config": {
            "input_names": list(INPUTS),
            "output_names": ["logits"],
            "dynamic_axes": {**dict.fromkeys(INPUTS, axes), "logits": {"0": "batch_size"}},
        },
    }


def _export_passes(config: dict[str, Any]) -> dict[str, Any]:
    """Conversion and the transformer fusions, as in Olive's own BERT workflows."""
    return {
        "conversion": {"type": "OnnxConversion"},
        "fusion": {
            "type": "OrtTransformersOptimization",
            "model_type": config["model_type"],
            "num_heads": config["num_attention_heads"],
            "hidden_size": config["hidden_size"],
        },
    }


def _run(run: Any, model: dict[str, Any], passes: dict[str, Any], out: Path) -> None:
    accelerator = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
    path = out.with_suffix(".json")
    workflow = {
        "input_model": model,
        "systems": {"local": {"type": "LocalSystem", "accelerators": [accelerator]}},
        "host": "local",
        "target": "local",
        "passes": passes,
        "output_dir": str(out),
        "cache_dir": str(out.with_suffix(".cache")),
        "log_severity_level": 3,
    }
    path.write_text(json.dumps(workflow), encoding="utf-8")
    run(str(path), disable_telemetry=True)


def _only_model(folder: Path) -> Path:
    """The ONNX file that a run left. Raises SystemExit where it left none, or more."""
    found = sorted(folder.rglob("*.onnx"))
    if len(found) != 1:
        raise SystemExit(f"Olive wrote {len(found)} ONNX models into {folder}")
    return found[0]


if __name__ == "__main__":
    os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"  # before olive is imported
    main()

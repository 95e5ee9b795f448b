"""The model as every peer runs it: an ONNX Runtime session of one thread, one text at a time. Plain
code, as its users write it; no import of edgeloop, for the peers' environments do not have it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer


class PeerModel:
    """Labels and scores of a text, best first."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {node.name for node in self.session.get_inputs()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(128)
        self.labels = json.loads((folder / "manifest.json").read_text())["labels"]

    def predict(self, text: str) -> dict:
        encoded = self.tokenizer.encode(text)
        every = {
            "input_ids": encoded.ids,
            "attention_mask": encoded.attention_mask,
            "token_type_ids": encoded.type_ids,
        }
        feed = {name: np.array([every[name]], dtype=np.int64) for name in self.inputs}
        logits = self.session.run(["logits"], feed)[0][0]
        shifted = np.exp(logits - logits.max())
        best = int(shifted.argmax())
        return {"label": self.labels[best], "score": float(shifted[best] / shifted.sum())}

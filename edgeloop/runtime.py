"""How a model.onnx with its tokenizer.json is loaded and run: by the server, by the measurement
of a candidate and by the reference's scoring, so that all three mean the same thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgeloop.errors import EngineError

NEEDED_INPUTS = {"input_ids", "attention_mask"}
KNOWN_INPUTS = NEEDED_INPUTS | {"token_type_ids"}
OUTPUTS = ["logits", "embedding"]
# onnxruntime 1.32's fused SkipLayerNormalization takes 51 us where Add and LayerNormalization take
# 20 (MiniLM, one short text, AVX-512): without the fusion int8 answers 9% sooner, fp32 6%.
SLOWER_FUSIONS = ["SkipLayerNormFusion"]


@dataclass(frozen=True)
class Encoded:
    """Token ids of a batch, padded to its longest row: (batch, seq) int64; per row how many of
    them are real and whether the text was longer and was cut."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    tokens: tuple[int, ...]
    truncated: tuple[bool, ...]


@dataclass(frozen=True)
class Output:
    """logits (batch, classes), embedding (batch, hidden), both float32."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]


class OnnxModel:
    """An ONNX Runtime session with its tokenizer. Thread-safe: ONNX Runtime's run() is."""

    def __init__(self, model: Path, tokenizer: Path, max_tokens: int, threads: int = 1) -> None:
        """Raises EngineError where either file does not load."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Texts have every length: an arena keeps the largest buffers of each for ever.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(
                str(model),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=SLOWER_FUSIONS,
            )
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as problem:  # both libraries raise their own, unexported types
            raise EngineError(f"{model} with {tokenizer}: does not load ({problem})") from problem
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.enable_padding(pad_id=self._pad_id())
        self._inputs = {node.name for node in self._session.get_inputs()}
        if not NEEDED_INPUTS <= self._inputs <= KNOWN_INPUTS:
            raise EngineError(f"{model}: wants {sorted(self._inputs)}, not {sorted(KNOWN_INPUTS)}")
        names = {node.name for node in self._session.get_outputs()}
        if not names.issuperset(OUTPUTS):
            raise EngineError(f"{model}: has the outputs {sorted(names)}, needs {OUTPUTS}")

    def _pad_id(self) -> int:
        padding = self._tokenizer.padding
        return int(padding["pad_id"]) if padding else 0

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Tokenize; a text longer than max_tokens is cut at its end."""
        rows = self._tokenizer.encode_batch_fast(list(texts))
        ids = np.array([row.ids for row in rows], dtype=np.int64)
        mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
        tokens = tuple(int(n) for n in mask.sum(axis=1))
        return Encoded(ids, mask, tokens, tuple(bool(row.overflowing) for row in rows))

    def run(self, encoded: Encoded) -> Output:
        """One forward pass over the batch. Raises EngineError where the model cannot answer."""
        feed = {"input_ids": encoded.input_ids, "attention_mask": encoded.attention_mask}
        if "token_type_ids" in self._inputs:
            feed["token_type_ids"] = np.zeros_like(encoded.input_ids)
        try:
            logits, embedding = self._session.run(OUTPUTS, feed)
        except Exception as problem:  # ONNX Runtime's exceptions have no common base of their own
            shape = encoded.input_ids.shape
            raise EngineError(
                f"the model does not answer a batch of shape {shape} ({problem})"
            ) from problem
        return Output(logits, embedding)

    def score(self, texts: Sequence[str]) -> Output:
        """One text at a time, so that no answer depends on the company it was scored in
        (dynamic int8 takes one activation scale for the whole batch)."""
        outputs = [self.run(self.encode([text])) for text in texts]
        if not outputs:
            raise EngineError("score() needs at least one text")
        return Output(
            np.concatenate([o.logits for o in outputs]),
            np.concatenate([o.embedding for o in outputs]),
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row-wise class probabilities: (batch, classes), in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted)
    probabilities: NDArray[np.float64] = exponent / exponent.sum(axis=-1, keepdims=True)
    return probabilities

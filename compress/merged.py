"""The merged Hugging Face folder as a torch model: what is exported, and what every candidate's
answers are compared with.
"""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

from compress.modules import Axes, Classifier, Embedder, Exported, Tagger
from edgeloop.errors import ExportError
from edgeloop.rows import TextInput
from edgeloop.runtime import (
    EMBEDDING,
    LOGITS,
    Encoded,
    Output,
    RowOutput,
    read_encodings,
    split_rows,
)
from edgeloop.tasks import tag_names

CHATTY = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "transformers")

# Beside the encoder, in the layout of sentence-transformers: what finetune writes.
DENSE_HEAD = Path("3_Dense/model.safetensors")
POOLING = Path("1_Pooling/config.json")
MEAN_POOLING = (["mean"], ["pooling_mode_mean_tokens"])


@dataclass(frozen=True)
class Merged:
    """A merged model in fp32 on the CPU, in eval mode, with its tokenizer."""

    module: Exported
    tokenizer: Any
    inputs: tuple[str, ...]
    vocabulary: int
    most_tokens: int

    @property
    def outputs(self) -> Axes:
        """What the module returns, by the name in the ONNX file."""
        return self.module.outputs

    def encode(self, text: TextInput, max_tokens: int) -> Encoded:
        """One text or pair by the folder's own tokenizer, cut at max_tokens."""
        texts = (text,) if isinstance(text, str) else text
        encoding = self.tokenizer(*texts, truncation=True, max_length=max_tokens)
        return read_encodings(encoding.encodings)

    def run(self, encoded: Encoded) -> Output:
        """One forward pass over the batch, as edgeloop.runtime.OnnxModel.run answers it."""
        feed = self.feed({name: torch.from_numpy(ids) for name, ids in encoded.feed().items()})
        with torch.inference_mode():
            outputs = dict(zip(self.outputs, self.module(**feed), strict=True))
        none = np.zeros((len(encoded.tokens), 0), dtype=np.float32)
        logits = outputs[LOGITS].numpy() if LOGITS in outputs else none
        return Output(logits, outputs[EMBEDDING].numpy())

    def feed(self, every: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Those that are inputs of this model, in its order."""
        return {name: every[name] for name in self.inputs}

    def answer(
        self, encoded: Sequence[Encoded], progress: Callable[[int], None]
    ) -> list[RowOutput]:
        """One text at a time."""
        outputs: list[RowOutput] = []
        # A single short text gains nothing from threads, and on a busy machine their barriers cost
        # up to ten times the work itself.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for done, row in enumerate(encoded, start=1):
                outputs += split_rows(row, self.run(row))
                progress(done)
        finally:
            torch.set_num_threads(threads)
        return outputs


@dataclass(frozen=True)
class Layout:
    """How a task's folder is loaded, and the module that it becomes."""

    architecture: Any
    module: Callable[[torch.nn.Module, torch.nn.Linear | None], Exported]
    is_bare_encoder: bool


ENCODER_WITH_HEAD = Layout(AutoModel, Classifier, is_bare_encoder=True)
SEQUENCE_CLASSIFIER = Layout(AutoModelForSequenceClassification, Classifier, is_bare_encoder=False)
TAGGER = Layout(AutoModelForTokenClassification, Tagger, is_bare_encoder=False)
EMBEDDER = Layout(AutoModel, Embedder, is_bare_encoder=True)


def load_merged(folder: Path, labels: Sequence[str], task: str = "text-classification") -> Merged:
    """Load the folder that finetune's merge of this task writes.

    Raises ExportError where weights or tokenizer are missing, incomplete or of another task.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ExportError(f"{folder}: has no tokenizer.json; merge into a folder with a tokenizer")
    layout = _layout(folder, task)
    with quiet():
        try:
            model, report = layout.architecture.from_pretrained(
                folder,
                dtype=torch.float32,
                # Traces into the smallest graph under either exporter; sdpa adds masks and NaN
                # guards to every layer that cost 2 to 4% on CPU.
                attn_implementation="eager",
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            head = _read_head(folder / DENSE_HEAD) if layout is ENCODER_WITH_HEAD else None
            pooling = _pooling(folder / POOLING) if layout.is_bare_encoder else []
        except Exception as problem:  # transformers and safetensors raise types of their own
            said = " ".join(str(problem).split())
            raise ExportError(f"{folder}: does not load ({said}); run the merge again") from None
    if layout.is_bare_encoder:
        model.pooler = None  # random where the folder lacks it, and nothing reads it
    _check_weights(folder, report)
    if pooling and pooling not in MEAN_POOLING:
        raise ExportError(f"{folder}: {POOLING} asks for {pooling}; only the mean is exported")
    if layout is not EMBEDDER:
        _check_names(folder, model, _output_names(labels, task), labels)
    return _describe(layout.module(model, head), tokenizer)


def _layout(folder: Path, task: str) -> Layout:
    if task == "token-classification":
        return TAGGER
    if task == "text-embedding":
        return EMBEDDER
    return ENCODER_WITH_HEAD if (folder / DENSE_HEAD).is_file() else SEQUENCE_CLASSIFIER


def _read_head(path: Path) -> torch.nn.Linear:
    tensors = load_file(path)
    classes, hidden = tensors["linear.weight"].shape
    head = torch.nn.Linear(hidden, classes)
    head.load_state_dict({name.removeprefix("linear."): tensors[name] for name in tensors})
    return head


def _pooling(path: Path) -> list[str]:
    """The pooling modes that the folder names, in the old or the new form; [] where it has none."""
    if not path.is_file():
        return []
    config = json.loads(path.read_bytes())
    named = [key for key, value in config.items() if key.startswith("pooling_mode_") and value]
    return named or [str(config.get("pooling_mode", "mean"))]


def _output_names(labels: Sequence[str], task: str) -> list[str]:
    return tag_names(labels) if task == "token-classification" else list(labels)


def _check_weights(folder: Path, report: Any) -> None:
    missing = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    lacking = sorted({*missing, *(str(key) for key in report["mismatched_keys"])})
    if lacking:
        raise ExportError(
            f"{folder}: the weights lack {len(lacking)} of the model's tensors "
            f"({', '.join(lacking[:5])}); they would be random. Run the merge again"
        )


def _check_names(folder: Path, model: Any, wanted: list[str], labels: Sequence[str]) -> None:
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    if names != wanted:
        raise ExportError(f"{folder}: config.json names {names}, the merge recorded {list(labels)}")


def _describe(module: Exported, tokenizer: Any) -> Merged:
    config = module.model.config
    inputs = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs.append("token_type_ids")
    positions = getattr(config, "max_position_embeddings", tokenizer.model_max_length)
    return Merged(
        module=module.eval(),
        tokenizer=tokenizer,
        inputs=tuple(inputs),
        vocabulary=int(config.vocab_size),
        most_tokens=min(int(positions), int(tokenizer.model_max_length)),
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars from torch, onnxscript and transformers."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()

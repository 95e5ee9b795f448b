"""The merged Hugging Face folder as a torch model: what is exported, and what every candidate's
answers are compared with.
"""

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
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from edgeloop.errors import ExportError

CHATTY = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir", "transformers")


# A head beside the encoder, in the layout of sentence-transformers: what finetune writes.
DENSE_HEAD = Path("3_Dense/model.safetensors")


class Classifier(torch.nn.Module):  # type: ignore[misc]
    """Input ids (batch, seq) -> logits (batch, classes) and embedding (batch, hidden).

    The embedding is the mean of the last hidden state under the attention mask, scaled to length 1
    (the convention of sentence-transformers' all-MiniLM models), so that a dot product is a cosine.
    With a `head` the logits are its answer to the embedding, otherwise the model's own.
    """

    def __init__(self, model: torch.nn.Module, head: torch.nn.Linear | None) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See the class."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            return_dict=True,
            **types,
        )
        hidden = output.hidden_states[-1]  # (batch, seq, hidden)
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)  # (batch, seq, 1)
        mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        embedding = torch.nn.functional.normalize(mean, dim=-1)
        return (output.logits if self.head is None else self.head(embedding)), embedding


@dataclass(frozen=True)
class Merged:
    """A merged model in fp32 on the CPU, in eval mode, with its tokenizer."""

    module: torch.nn.Module
    tokenizer: Any
    inputs: tuple[str, ...]
    vocabulary: int
    most_tokens: int

    def encode(self, text: str, max_tokens: int) -> list[int]:
        """The token ids of one text by the folder's own tokenizer, cut at max_tokens."""
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=max_tokens)["input_ids"]
        return ids

    def forward(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """logits (batch, classes) and embedding (batch, hidden) of a batch (batch, seq)."""
        feed = self.feed(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
        with torch.inference_mode():
            logits, embedding = self.module(**feed)
        return logits.numpy(), embedding.numpy()

    def feed(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        """The model's inputs by name."""
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
        return {name: every[name] for name in self.inputs}

    def answer(
        self, encoded: Sequence[Sequence[int]], progress: Callable[[int], None]
    ) -> NDArray[np.float32]:
        """Logits (rows, classes), one text at a time."""
        logits = []
        # A single short text gains nothing from threads, and on a busy machine their barriers cost
        # up to ten times the work itself.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for done, ids in enumerate(encoded, start=1):
                row = np.array([ids], dtype=np.int64)
                logits.append(self.forward(row, np.ones_like(row))[0])
                progress(done)
        finally:
            torch.set_num_threads(threads)
        return np.concatenate(logits)


def load_merged(folder: Path, labels: Sequence[str]) -> Merged:
    """Raises ExportError where weights or tokenizer are missing, incomplete or of another task."""
    if not (folder / "tokenizer.json").is_file():
        raise ExportError(f"{folder}: has no tokenizer.json; merge into a folder with a tokenizer")
    has_head = (folder / DENSE_HEAD).is_file()
    with quiet():
        try:
            architecture = AutoModel if has_head else AutoModelForSequenceClassification
            model, report = architecture.from_pretrained(
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
            head = _read_head(folder / DENSE_HEAD) if has_head else None
        except Exception as problem:  # transformers and safetensors raise types of their own
            said = " ".join(str(problem).split())
            raise ExportError(f"{folder}: does not load ({said}); run the merge again") from None
    if head is not None:
        model.pooler = None  # random where the folder lacks it, and nothing reads it
    _check(folder, model, report, labels)
    return _describe(Classifier(model, head), tokenizer)


def _read_head(path: Path) -> torch.nn.Linear:
    tensors = load_file(path)
    classes, hidden = tensors["linear.weight"].shape
    head = torch.nn.Linear(hidden, classes)
    head.load_state_dict({name.removeprefix("linear."): tensors[name] for name in tensors})
    return head


def _check(folder: Path, model: Any, report: Any, labels: Sequence[str]) -> None:
    missing = {key for key in report["missing_keys"] if not key.startswith("pooler.")}
    lacking = sorted({*missing, *(str(key) for key in report["mismatched_keys"])})
    if lacking:
        raise ExportError(
            f"{folder}: the weights lack {len(lacking)} of the model's tensors "
            f"({', '.join(lacking[:5])}); they would be random. Run the merge again"
        )
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
    if names != list(labels):
        raise ExportError(f"{folder}: config.json names {names}, the merge recorded {list(labels)}")


def _describe(classifier: Classifier, tokenizer: Any) -> Merged:
    config = classifier.model.config
    inputs = ["input_ids", "attention_mask"]
    if getattr(config, "type_vocab_size", 0) > 1:
        inputs.append("token_type_ids")
    positions = getattr(config, "max_position_embeddings", tokenizer.model_max_length)
    return Merged(
        module=classifier.eval(),
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

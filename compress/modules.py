"""What is exported, per task: the merged encoder with what makes its outputs of the hidden states.

Every module takes input_ids, attention_mask and, where the encoder has them, token_type_ids, all
(batch, seq), and returns a tuple of `outputs`, whose keys are the names in the ONNX file and whose
values are the axes of free length. The embedding (batch, hidden) is the mean of the last hidden
state under the attention mask, scaled to length 1 (the convention of sentence-transformers'
all-MiniLM models), so that a dot product is a cosine.
"""

from collections.abc import Mapping
from typing import Any

import torch

from edgeloop.runtime import EMBEDDING, LOGITS

Axes = Mapping[str, Mapping[int, str]]
PER_ROW = {0: "batch"}
PER_TOKEN = {0: "batch", 1: "seq"}


class Exported(torch.nn.Module):  # type: ignore[misc]
    """An encoder, and what the task adds to it."""

    outputs: Axes

    def __init__(self, model: torch.nn.Module, head: torch.nn.Linear | None = None) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def _run(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None,
    ) -> tuple[Any, torch.Tensor]:
        """The model's own output, and the embedding."""
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
        return output, torch.nn.functional.normalize(mean, dim=-1)


class Classifier(Exported):
    """Logits (batch, classes) and the embedding. With a `head` the logits are its answer to the
    embedding, otherwise the model's own."""

    outputs: Axes = {LOGITS: PER_ROW, EMBEDDING: PER_ROW}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """See the module."""
        output, embedding = self._run(input_ids, attention_mask, token_type_ids)
        return (output.logits if self.head is None else self.head(embedding)), embedding


class Tagger(Exported):
    """Logits (batch, seq, tags) and the embedding."""

    outputs: Axes = {LOGITS: PER_TOKEN, EMBEDDING: PER_ROW}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """See the module."""
        output, embedding = self._run(input_ids, attention_mask, token_type_ids)
        return output.logits, embedding


class Embedder(Exported):
    """The embedding alone."""

    outputs: Axes = {EMBEDDING: PER_ROW}

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """See the module."""
        return (self._run(input_ids, attention_mask, token_type_ids)[1],)

"""What is trained, per task: a base encoder, the mean of its last hidden state or its hidden states
themselves, and a linear head.

Mean pooling is what sentence encoders were trained with, and it needs no pooler of its own: on the
example's rows a head on the first token's pooler stops at 0.88 where this one passes 0.90.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import normalize

from edgeloop.tasks import tag_names
from finetune.encoder import hidden_size

Head = dict[str, torch.Tensor]


class TaskModel(torch.nn.Module):  # type: ignore[misc]
    """input_ids, attention_mask and, for pairs, token_type_ids (batch, seq) -> the task's
    output."""

    def __init__(self, encoder: torch.nn.Module, width: int) -> None:
        """`width`: the last dimension of the output of the head."""
        super().__init__()
        self.encoder = encoder
        self.width = width
        self.hidden = hidden_size(encoder.config)
        # States before those of the text, which soft prompts bring along and no answer reads.
        self.virtual_tokens = 0
        self.head = torch.nn.Linear(self.hidden, width) if width else None
        if self.head is not None:
            torch.nn.init.zeros_(self.head.weight)
            torch.nn.init.zeros_(self.head.bias)

    def states(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The last hidden state, (batch, seq, hidden)."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        output = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types)
        states: torch.Tensor = output.last_hidden_state
        return states[:, self.virtual_tokens :]

    def pooled(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Unit vectors, (batch, hidden): the mean of the real tokens' states."""
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1)
        unit: torch.Tensor = normalize(mean, dim=-1)
        return unit

    def answer(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """The task's output from the hidden states."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See the class."""
        return self.answer(self.states(input_ids, attention_mask, token_type_ids), attention_mask)

    def folded_head(self) -> Head:
        """The head as it ships: weight (width, hidden), bias (width,); empty without one."""
        if self.head is None:
            return {}
        weight, bias = self.head.weight.detach(), self.head.bias.detach()
        return {"weight": weight.clone(), "bias": bias.clone()}

    def set_folded_head(self, head: Mapping[str, torch.Tensor]) -> None:
        """Put such a head back."""
        if self.head is not None:
            with torch.no_grad():
                self.head.weight.copy_(head["weight"])
                self.head.bias.copy_(head["bias"])


class Classifier(TaskModel):
    """-> logits (batch, classes), one label or several."""

    def __init__(self, encoder: torch.nn.Module, width: int) -> None:
        super().__init__(encoder, width)
        # A unit vector's coordinates are of the order 1/sqrt(hidden): scaled to the order 1, the
        # head learns at the same rate as the adapters. `folded_head` takes the factor in again.
        self.scale = math.sqrt(self.hidden)

    def answer(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, (batch, classes)."""
        assert self.head is not None
        logits: torch.Tensor = self.head(self.pooled(states, attention_mask) * self.scale)
        return logits

    def folded_head(self) -> Head:
        """The head on the unit vector itself."""
        head = super().folded_head()
        return {**head, "weight": head["weight"] * self.scale}

    def set_folded_head(self, head: Mapping[str, torch.Tensor]) -> None:
        """Put such a head back."""
        super().set_folded_head({**head, "weight": head["weight"] / self.scale})


class Tagger(TaskModel):
    """-> logits (batch, seq, tags)."""

    def answer(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits per token."""
        assert self.head is not None
        logits: torch.Tensor = self.head(states)
        return logits


class Embedder(TaskModel):
    """-> unit vectors (batch, hidden)."""

    def answer(self, states: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Unit vectors."""
        return self.pooled(states, attention_mask)


MODELS: dict[str, Callable[[torch.nn.Module, int], TaskModel]] = {
    "text-classification": Classifier,
    "multi-label-classification": Classifier,
    "token-classification": Tagger,
    "text-embedding": Embedder,
}


def task_settings(task: str, labels: tuple[str, ...]) -> dict[str, Any]:
    """What the task says in a Hugging Face config: names of the outputs, and what they mean."""
    if task == "text-embedding":
        return {}
    names = tag_names(labels) if task == "token-classification" else labels
    settings: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }
    kinds = {
        "text-classification": "single_label_classification",
        "multi-label-classification": "multi_label_classification",
    }
    return settings | ({"problem_type": kinds[task]} if task in kinds else {})

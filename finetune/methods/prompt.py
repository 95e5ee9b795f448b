"""Prompt tuning (arXiv 2104.08691): learned embeddings before those of the text.

Ours and not PEFT's forward, which takes the segments from text pairs; the files are PEFT's.
"""

from typing import Any

import torch
from peft import PromptTuningConfig, TaskType

from edgeloop.recipe import Finetune
from finetune.methods.virtual_tokens import VirtualTokensMethod, WithVirtualTokens
from finetune.model import TaskModel


class Prompted(WithVirtualTokens):
    """The matrix is (num_virtual_tokens, embedding); the virtual tokens' states come first."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> Any:
        """The encoder's output for virtual tokens and text."""
        rows, tokens = len(input_ids), len(self.prompt_embeddings)
        texts = self.encoder.get_input_embeddings()(input_ids)
        prompts = self.prompt_embeddings.expand(rows, -1, -1)
        types = {}
        if token_type_ids is not None:
            types["token_type_ids"] = _before(token_type_ids, tokens, 0)
        return self.encoder(
            inputs_embeds=torch.cat([prompts, texts], dim=1),
            attention_mask=_before(attention_mask, tokens, 1),
            **types,
        )


class PromptMethod(VirtualTokensMethod):
    """Virtual tokens before the text."""

    unmergeable: str | None = (
        "learned prompt tokens stand before every text and are no weights of the model, so they "
        "cannot be merged, exported or served here; use finetune.method lora"
    )

    def initial(self, encoder: torch.nn.Module, settings: Finetune) -> torch.Tensor:
        """Embeddings of words drawn from the vocabulary, as the paper found best."""
        words = encoder.get_input_embeddings().weight.detach()
        chosen = torch.randint(len(words), (settings.prompt.num_virtual_tokens,))
        return words[chosen].clone()

    def wrap(self, model: TaskModel, embeddings: torch.Tensor) -> None:
        model.encoder = Prompted(model.encoder, embeddings)
        model.virtual_tokens = len(embeddings)

    def described(self, encoder: torch.nn.Module, tokens: int) -> PromptTuningConfig:
        return PromptTuningConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            num_virtual_tokens=tokens,
            token_dim=self.width(encoder),
            num_layers=encoder.config.num_hidden_layers,
            num_attention_heads=encoder.config.num_attention_heads,
            num_transformer_submodules=1,
        )

    def width(self, encoder: torch.nn.Module) -> int:
        return int(encoder.get_input_embeddings().embedding_dim)


def _before(row: torch.Tensor, count: int, value: int) -> torch.Tensor:
    """(batch, seq) -> (batch, count + seq)."""
    return torch.nn.functional.pad(row, (count, 0), value=value)

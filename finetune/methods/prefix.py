"""Prefix tuning (arXiv 2101.00190): learned keys and values before those of the text, per layer.

Through transformers' attention interface and not PEFT's past_key_values: a cache moves the text's
positions, and DistilBERT and ModernBERT take none. The file is PEFT's: prompt_embeddings
(num_virtual_tokens, layers * 2 * hidden), per layer the keys and then the values of all heads.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft import PrefixTuningConfig, TaskType
from torch.nn.functional import pad
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from edgeloop.errors import TrainingError
from edgeloop.recipe import Finetune
from finetune.methods.virtual_tokens import VirtualTokensMethod, WithVirtualTokens
from finetune.model import TaskModel

ATTENTION, PROBE = "edgeloop_prefix", "edgeloop_probe"
INITIAL_STD = 0.02

Answer = tuple[torch.Tensor, torch.Tensor | None]


def attend_with_prefix(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> Answer:
    """SDPA with the layer's learned keys and values first, which every token may look at.
    query, key, value: (batch, heads, seq, head width); the mask is None or ends with seq."""
    prefix: tuple[torch.Tensor, torch.Tensor] = module.edgeloop_prefix()
    keys, values = (part.expand(len(key), -1, -1, -1) for part in prefix)
    if attention_mask is not None:
        seen = True if attention_mask.dtype == torch.bool else 0.0
        attention_mask = pad(attention_mask, (keys.shape[2], 0), value=seen)
    answer: Answer = sdpa_attention_forward(
        module,
        query,
        torch.cat([keys, key], dim=2),
        torch.cat([values, value], dim=2),
        attention_mask,
        **kwargs,
    )
    return answer


AttentionInterface.register(ATTENTION, attend_with_prefix)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class Prefixed(WithVirtualTokens):
    """The matrix is (num_virtual_tokens, layers * 2 * hidden)."""

    def __init__(self, encoder: torch.nn.Module, embeddings: torch.Tensor) -> None:
        super().__init__(encoder, embeddings)
        layers = attention_layers(encoder)
        self.heads = layers[0][1]
        self.layers = len(layers)
        for index, (module, _, _) in enumerate(layers):
            # A function, not a module: the matrix must not be listed once per layer.
            module.edgeloop_prefix = partial(self.prefix, index)
        encoder.set_attn_implementation(ATTENTION)

    def prefix(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The layer's keys and values, (1, heads, num_virtual_tokens, head width) each."""
        tokens = len(self.prompt_embeddings)
        parts = self.prompt_embeddings.view(tokens, self.layers * 2, self.heads, -1)
        keys, values = parts[:, 2 * layer : 2 * layer + 2].permute(1, 2, 0, 3).unsqueeze(1)
        return keys, values

    def forward(self, **inputs: torch.Tensor) -> Any:
        """The encoder's output for the text."""
        return self.encoder(**inputs)


class PrefixMethod(VirtualTokensMethod):
    """Virtual keys and values in every layer's attention."""

    unmergeable: str | None = (
        "learned keys and values stand before those of every text and are no weights of the model, "
        "so they cannot be merged, exported or served here; use finetune.method lora"
    )

    def initial(self, encoder: torch.nn.Module, settings: Finetune) -> torch.Tensor:
        """Small numbers: the prefix draws some attention, and adds almost nothing."""
        shape = settings.prefix.num_virtual_tokens, self.width(encoder)
        return torch.randn(shape) * INITIAL_STD

    def wrap(self, model: TaskModel, embeddings: torch.Tensor) -> None:
        model.encoder = Prefixed(model.encoder, embeddings)

    def described(self, encoder: torch.nn.Module, tokens: int) -> PrefixTuningConfig:
        layers = attention_layers(encoder)
        _, heads, head_width = layers[0]
        return PrefixTuningConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            num_virtual_tokens=tokens,
            token_dim=heads * head_width,
            num_layers=len(layers),
            num_attention_heads=heads,
            num_transformer_submodules=1,
        )

    def width(self, encoder: torch.nn.Module) -> int:
        layers = attention_layers(encoder)
        _, heads, head_width = layers[0]
        return len(layers) * 2 * heads * head_width


def attention_layers(encoder: torch.nn.Module) -> list[tuple[torch.nn.Module, int, int]]:
    """(module, heads, head width) of every attention that goes through transformers' interface,
    found by answering one short text.

    Raises TrainingError where the architecture attends in its own way, or shares its layers.
    """
    found: list[tuple[torch.nn.Module, int, int]] = []

    def note(module: torch.nn.Module, *tensors: torch.Tensor, **settings: Any) -> Answer:
        _, key, *_ = tensors
        found.append((module, key.shape[1], key.shape[3]))
        answer: Answer = sdpa_attention_forward(module, *tensors, **settings)
        return answer

    _answer_with(encoder, note)
    modules = {id(module) for module, _, _ in found}
    if not found or len(modules) != encoder.config.num_hidden_layers or len(found) != len(modules):
        raise TrainingError(
            f"finetune.method prefix: architecture {encoder.config.model_type!r} has no place for "
            "learned keys and values in transformers; use finetune.method lora"
        )
    return found


def _answer_with(encoder: torch.nn.Module, attention: Callable[..., Answer]) -> None:
    AttentionInterface.register(PROBE, attention)
    AttentionMaskInterface.register(PROBE, sdpa_mask)
    before, training = encoder.config._attn_implementation, encoder.training
    try:
        encoder.set_attn_implementation(PROBE)
        encoder.eval()
        ids = torch.ones(1, 2, dtype=torch.int64)
        with torch.inference_mode():
            encoder(input_ids=ids, attention_mask=torch.ones_like(ids))
    except ValueError:
        return  # the architecture takes no other attention; nothing was noted
    finally:
        encoder.train(training)
    encoder.set_attn_implementation(before)

"""QLoRA (arXiv 2305.14314): LoRA on a base whose linear layers are frozen in 4 bits.

The adapter has learned to live with the rounded base, and is to be merged into one without 4-bit
layers: the rounded weights written out, or the base as it is stored. The stage measures both.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from edgeloop.recipe import Finetune
from finetune.encoder import load_encoder
from finetune.methods.lora import LoraMethod


class QloraMethod(LoraMethod):
    """LoRA; only the base differs."""

    def load_base(self, folder: Path, config: Any, settings: Finetune) -> PreTrainedModel:
        """The base with 4-bit linear layers that compute in fp32.

        Raises ModuleNotFoundError without bitsandbytes.
        """
        from bitsandbytes.nn.modules import Linear4bit

        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_compute_dtype=torch.float32,
            bnb_4bit_quant_type=settings.qlora.bnb_4bit_quant_type,
            bnb_4bit_use_double_quant=settings.qlora.bnb_4bit_use_double_quant,
        )
        encoder = load_encoder(
            folder,
            config,
            torch.float32,
            quantization_config=quantisation,
            device_map={"": "cpu"},
        )
        for module in encoder.modules():
            if isinstance(module, Linear4bit):
                # Its shortcut for answering packs the weights anew, in bf16 and for good: training
                # would go on with others, and no two kinds of CPU would give the same bits.
                module.support_avx512bf16_for_cpu = False
        return encoder

    def merge_bases(
        self, folder: Path, config: Any, settings: Finetune
    ) -> dict[str, PreTrainedModel]:
        """The rounded weights written out, then the base as it is stored."""
        stored = super().merge_bases(folder, config, settings)
        rounded = load_encoder(folder, config, "auto")
        # A copy: what is written must not ask for 4 bits in its config.json.
        weights = _dequantised(self.load_base(folder, deepcopy(config), settings))
        rounded.load_state_dict(weights, strict=False)
        return {f"the dequantised {settings.qlora.bnb_4bit_quant_type} base": rounded, **stored}


def _dequantised(encoder: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The 4-bit layers' weights in fp32, by name."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn.modules import Linear4bit

    return {
        f"{name}.weight": dequantize_4bit(module.weight.data, module.weight.quant_state)
        for name, module in encoder.named_modules()
        if isinstance(module, Linear4bit)
    }

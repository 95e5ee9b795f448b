"""Small encoders of every architecture with random weights, exported, with a tokenizer over the
words of tests.tiny and as many that no text uses: what the steps of compress work on.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers as hf
from tokenizers import Tokenizer, models

from compress.export import EXPORTERS
from compress.graph import tidy
from compress.merged import quiet
from compress.modules import Classifier
from compress.source import Source
from edgeloop.bundle import MODEL, TOKENIZER
from tests import tiny

MAX_TOKENS = 32
UNUSED = 40
# Not the first, so that it has another id where the tokens before it are trimmed.
PAD_ID = 5
SIZES: dict[str, Any] = {
    "vocab_size": UNUSED + 40,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": PAD_ID,
    "initializer_range": 0.2,
    "num_labels": len(tiny.LABELS),
    "attn_implementation": "eager",
}


def _distilbert() -> Any:
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    return hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**SIZES, **sizes))


def _deberta() -> Any:
    relative = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8}
    more = {"share_att_key": True, "type_vocab_size": 0}
    return hf.DebertaV2ForSequenceClassification(hf.DebertaV2Config(**SIZES, **relative, **more))


def _modernbert() -> Any:
    specials = {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    local = {"global_attn_every_n_layers": 2, "local_attention": 8}
    config = hf.ModernBertConfig(**SIZES, **local, **specials)
    return hf.ModernBertForSequenceClassification(config)


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**SIZES)),
    "roberta": lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**SIZES)),
    "xlm-roberta": lambda: hf.XLMRobertaForSequenceClassification(hf.XLMRobertaConfig(**SIZES)),
    "mpnet": lambda: hf.MPNetForSequenceClassification(hf.MPNetConfig(**SIZES)),
    "distilbert": _distilbert,
    "deberta-v2": _deberta,
    "modernbert": _modernbert,
}


# All by the exporter that is quick, and one by the one that is first.
EXPORTS = [*((name, "torchscript") for name in ARCHITECTURES), ("xlm-roberta", "dynamo")]


def wide_tokenizer() -> Tokenizer:
    """The words of tests.tiny among others that no text has."""
    narrow = tiny.word_tokenizer()
    words = [word for word in narrow.get_vocab() if word not in tiny.SPECIAL]
    unused = [f"[unused{i}]" for i in range(UNUSED)]
    tokens = [*unused[:PAD_ID], *tiny.SPECIAL, *unused[PAD_ID:20], *sorted(words), *unused[20:]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    narrow.model = models.WordLevel(vocabulary, "[UNK]")
    narrow.post_processor = tiny.around_text(vocabulary["[CLS]"], vocabulary["[SEP]"])
    narrow.enable_padding(pad_id=vocabulary["[PAD]"], pad_token="[PAD]")
    return narrow


def export_tiny(folder: Path, architecture: str, exporter: str, texts: int = 60) -> Source:
    """model.onnx and tokenizer.json in `folder`, as a source with texts."""
    folder.mkdir(parents=True, exist_ok=True)
    wide_tokenizer().save(str(folder / TOKENIZER))
    torch.manual_seed(0)
    with quiet():
        module = Classifier(ARCHITECTURES[architecture]().eval())
        ids = torch.arange(1, 17).reshape(2, 8)
        sample = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        model = EXPORTERS[exporter](module, sample, module.outputs)
    tidy(model, list(module.outputs))
    onnx.save(model, str(folder / MODEL))
    inputs = [text for text, _ in tiny.sentences(texts, seed=3)]
    return Source(folder / MODEL, folder / TOKENIZER, inputs, MAX_TOKENS)


def with_texts(source: Source, count: int) -> Source:
    """The same with fewer texts."""
    return replace(source, texts=source.texts[:count])

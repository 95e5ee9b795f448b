"""Merged folders of every architecture that students are made of, tiny and with random weights, and
lessons on the answers that they give.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from compress.merged import Merged, load_merged
from compress.students.lesson import Lesson
from edgeloop.recipe import Distill, TaskName
from edgeloop.rows import Row, TextInput
from tests import tiny
from tests.merged_run import MAX_TOKENS, PLAIN, labels_of, make_merged, own_answers

MEASURED = Distill()


def changed(settings: Distill, **changes: Any) -> Distill:
    """Other settings, unchecked."""
    return settings.model_copy(update=changes)


LAYERS, HIDDEN, HEADS, INNER = 4, 32, 4, 64
QUICK = changed(
    MEASURED,
    num_train_epochs=6,
    narrow_epochs=6,
    pruned_epochs=6,
    static_epochs=6,
    learning_rate=2e-3,
    static_width=16,
    batch_rows=8,
    static_batch_rows=8,
)

COMMON = {
    "num_hidden_layers": LAYERS,
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
DISTILLED = {
    "n_layers": LAYERS,
    "dim": HIDDEN,
    "n_heads": HEADS,
    "hidden_dim": INNER,
    "max_position_embeddings": 80,
    "initializer_range": 0.2,
}
# DeBERTa-v3's: relative positions that share the layers' own projections.
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
MODERN = {"local_attention": 8, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "bert": (BertConfig, COMMON),
    "distilbert": (DistilBertConfig, DISTILLED),
    "roberta": (RobertaConfig, COMMON | {"type_vocab_size": 1}),
    "xlm-roberta": (XLMRobertaConfig, COMMON | {"type_vocab_size": 1}),
    "mpnet": (MPNetConfig, COMMON),
    "deberta-v2": (DebertaV2Config, COMMON | RELATIVE),
    "deberta-v2-unshared": (DebertaV2Config, COMMON | RELATIVE | {"share_att_key": False}),
    "modernbert": (ModernBertConfig, COMMON | MODERN | {"sep_token_id": 3}),
}


def make_architecture(base: Path, folder: Path, name: str) -> Merged:
    """A classifier over tiny.LABELS with the tokenizer of `base`."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(folder)
    kind, settings = CONFIGS[name]
    torch.manual_seed(0)
    labels = dict(enumerate(tiny.LABELS))
    config = kind(vocab_size=len(tokenizer), id2label=labels, **settings)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return load_merged(folder, tiny.LABELS)


def make_lesson(
    base: Path,
    folder: Path,
    task: TaskName = PLAIN,
    settings: Distill = QUICK,
    unlabelled: Sequence[TextInput] = (),
    count: int = 96,
) -> Lesson:
    """A tiny BERT's, of 2 layers, on rows that carry its own answers."""
    make_merged(base, folder, task=task)
    rows = own_answers(folder, tiny.rows(task, count, 7), task)
    teacher = load_merged(folder, labels_of(task), task)
    return lesson_of(teacher, rows, task, settings, unlabelled)


def lesson_of(
    teacher: Merged,
    rows: Sequence[Row],
    task: TaskName = PLAIN,
    settings: Distill = QUICK,
    unlabelled: Sequence[TextInput] = (),
) -> Lesson:
    """What the teacher is to teach of these rows."""
    return Lesson(
        teacher=teacher,
        task=task,
        labels=labels_of(task),
        rows=rows,
        unlabelled=unlabelled,
        max_tokens=MAX_TOKENS,
        settings=settings,
        progress=lambda line: None,
    )

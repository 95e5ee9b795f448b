"""Tiny but real: an ONNX text classifier and a bundle, made in milliseconds without torch; a BERT
with random weights, made with transformers. All the tests' models come from here.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MODEL,
    REFERENCE,
    TOKENIZER,
    Bundle,
    GoldenRow,
    write_bundle,
)
from edgeloop.records import (
    FileEntry,
    Interval,
    Machine,
    Manifest,
    Measurement,
    PairedDrop,
    Reference,
)
from edgeloop.runtime import OnnxModel, softmax

LABELS = ("billing", "delivery", "repair")
WORDS = {
    "billing": ["invoice", "card", "charged", "payment", "refund", "receipt", "tax"],
    "delivery": ["parcel", "courier", "tracking", "late", "address", "door", "arrive"],
    "repair": ["leak", "broken", "noise", "error", "pump", "heat", "jammed"],
}
FILLER = ["my", "the", "is", "and", "please", "help", "today", "it", "again", "why", "now", "i"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
HIDDEN = 16


def sentence(rng: np.random.Generator, label: str, words: int = 6) -> str:
    """A text whose label is clear from two of its words."""
    chosen = [str(rng.choice(FILLER)) for _ in range(words)]
    for word in rng.choice(WORDS[label], size=2, replace=False):
        chosen.insert(int(rng.integers(len(chosen))), str(word))
    return " ".join(chosen)


def sentences(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(text, label) in a random order of labels."""
    rng = np.random.default_rng(seed)
    labels = [str(rng.choice(LABELS)) for _ in range(count)]
    return [(sentence(rng, label), label) for label in labels]


def word_tokenizer() -> Tokenizer:
    """A word-level tokenizer over the words above."""
    words = [*SPECIAL, *FILLER, *(w for ws in WORDS.values() for w in ws)]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def make_model(folder: Path, seed: int = 0, labels: tuple[str, ...] = LABELS) -> None:
    """model.onnx and tokenizer.json: embeddings, masked mean, linear head that knows the words."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer()
    tokenizer.save(str(folder / TOKENIZER))
    rng = np.random.default_rng(seed)
    table = rng.normal(0, 0.1, (tokenizer.get_vocab_size(), HIDDEN)).astype(np.float32)
    for i, label in enumerate(LABELS):
        for word in WORDS[label]:
            table[tokenizer.token_to_id(word), i] += 3.0
    head = np.zeros((HIDDEN, len(labels)), dtype=np.float32)
    for i, label in enumerate(labels):
        if label in LABELS:
            head[LABELS.index(label), i] = 4.0
    onnx.save(_graph(table, head), str(folder / MODEL))


def _graph(table: np.ndarray, head: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["tokens", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "head"], ["logits"]),
    ]
    values = {
        "table": table,
        "head": head,
        "last": np.array([2], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
    }
    shapes = [("input_ids", TensorProto.INT64), ("attention_mask", TensorProto.INT64)]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, t, ["batch", "seq"]) for n, t in shapes],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", head.shape[1]]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", HIDDEN]),
        ],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def figures() -> tuple[Measurement, PairedDrop, Machine]:
    """Plausible figures for a manifest."""
    interval = Interval(value=1.0, low=0.9, high=1.1)
    return (
        Measurement(
            rows=10,
            repeats=3,
            latency_p50_ms=interval,
            latency_p95_ms=interval,
            size_bytes=1000,
            rss_bytes=50_000_000,
            cold_start_seconds=0.2,
        ),
        PairedDrop(
            rows=100,
            reference_accuracy=1.0,
            candidate_accuracy=1.0,
            lost=0,
            gained=0,
            drop_ratio=0.0,
            upper_bound_ratio=0.03,
            confidence=0.95,
        ),
        Machine(cpu="test", isa=("avx2",), cores=2, memory_bytes=1 << 30, platform="test"),
    )


def no_reference() -> Reference:
    """A reference that is not armed."""
    return Reference(
        inputs_digest="0" * 64,
        files=(),
        rows=0,
        armed=False,
        target_run_length=20_000,
        verified_run_length=0.0,
        threshold=0.0,
        smallest_visible_share=1.0,
        reason="no reference rows",
    )


def make_bundle(
    path: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    name: str = "tiny",
    reference: Reference | None = None,
    reference_npz: bytes = b"",
) -> Bundle:
    """A complete bundle around `make_model`."""

    def fill(folder: Path) -> None:
        make_model(folder, seed, labels)
        model = OnnxModel(folder / MODEL, folder / TOKENIZER, max_tokens=64)
        lines = []
        for i, (text, label) in enumerate(sentences(12, seed=99)):
            scores = softmax(model.score([text])[0].logits)
            best = int(scores.argmax())
            lines.append(
                GoldenRow(
                    id=str(i), text=text, label=label, expected=labels[best], score=scores[best]
                ).model_dump_json()
            )
        (folder / GOLDEN).write_text("\n".join(lines) + "\n")
        (folder / REFERENCE).write_bytes(reference_npz)
        (folder / CARD).write_text("# tiny\n")

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        measurement, accuracy, machine = figures()
        return Manifest(
            name=name,
            task="text-classification",
            engine="onnx",
            candidate="onnx-fp32",
            labels=labels,
            max_tokens=64,
            deadline_ms=1000,
            created_at="2026-01-01T00:00:00+00:00",
            files=files,
            parents={"seed": str(seed)},
            measurement=measurement,
            accuracy=accuracy,
            test_accuracy=1.0,
            budget={"max_accuracy_drop": 0.02},
            machine=machine,
            reference=reference or no_reference(),
            tool_versions={},
        )

    return write_bundle(path, fill, manifest)


def make_bert(folder: Path, seed: int = 0) -> None:
    """A BERT folder with random weights and a WordPiece tokenizer over the words above."""
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer()
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    wrapped.save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)


def write_rows(path: Path, rows: list[tuple[str, str]], first_id: int = 0) -> None:
    """A csv, jsonl or parquet-free csv file with id, text, label."""
    lines = ["id,text,label"]
    lines += [f"r{first_id + i},{json.dumps(text)},{label}" for i, (text, label) in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")

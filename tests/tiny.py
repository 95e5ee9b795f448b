"""Tiny but real: ONNX models and bundles of every task, made in milliseconds without torch; a BERT
with random weights, made with transformers. All the tests' models come from here.
"""

import json
import re
from pathlib import Path

import numpy as np
import onnx
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgeloop.bundle import (
    CARD,
    GOLDEN,
    MODEL,
    REFERENCE,
    TOKENIZER,
    Bundle,
    write_bundle,
)
from edgeloop.golden import make_golden
from edgeloop.records import (
    FileEntry,
    Interval,
    Machine,
    Manifest,
    Measurement,
    PairedDrop,
    Reference,
)
from edgeloop.rows import Row, Span
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from tests.tiny_graphs import GRAPHS, as_model, weigh_second_text
from tests.tiny_graphs import HIDDEN as HIDDEN

LABELS = ("billing", "delivery", "repair")
WORDS = {
    "billing": ["invoice", "card", "charged", "payment", "refund", "receipt", "tax"],
    "delivery": ["parcel", "courier", "tracking", "late", "address", "door", "arrive"],
    "repair": ["leak", "broken", "noise", "error", "pump", "heat", "jammed"],
}
FILLER = ["my", "the", "is", "and", "please", "help", "today", "it", "again", "why", "now", "i"]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


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
    tokenizer.post_processor = around_text(2, 3)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def around_text(cls_id: int, sep_id: int) -> processors.TemplateProcessing:
    """[CLS] and [SEP] around a text or a pair."""
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls_id), ("[SEP]", sep_id)],
    )


def rows(task: str, count: int, seed: int = 0, text_pair: bool = False) -> list[Row]:
    """Rows that the tiny model of the task answers rightly; a pair has the label of its second
    text."""
    rng = np.random.default_rng(seed)
    if task == "text-classification" and not text_pair:
        return [
            Row(str(i), text, (label,)) for i, (text, label) in enumerate(sentences(count, seed))
        ]
    return [ROW_MAKERS["pair" if text_pair else task](rng, str(i)) for i in range(count)]


def _pair_row(rng: np.random.Generator, row_id: str) -> Row:
    first, second = (str(rng.choice(LABELS)) for _ in range(2))
    return Row(row_id, sentence(rng, first), (second,), text_pair=sentence(rng, second))


def _multi_label_row(rng: np.random.Generator, row_id: str) -> Row:
    labels = sorted(rng.choice(LABELS, size=int(rng.integers(3)), replace=False).tolist())
    words = [str(rng.choice(FILLER)) for _ in range(3)]
    words += [str(word) for label in labels for word in rng.choice(WORDS[label], size=2)]
    return Row(row_id, " ".join(rng.permutation(words).tolist()), tuple(labels))


def _tagged_row(rng: np.random.Generator, row_id: str) -> Row:
    """Every word of a label is an entity of its own."""
    text = sentence(rng, str(rng.choice(LABELS)))
    label_of = {word: label for label in LABELS for word in WORDS[label]}
    spans = [
        Span(match.start(), match.end(), label_of[match.group()])
        for match in re.finditer(r"\w+", text)
        if match.group() in label_of
    ]
    return Row(row_id, text, spans=tuple(spans))


def _embedding_row(rng: np.random.Generator, row_id: str) -> Row:
    """The text that belongs to a text has the same words, and one more."""
    words = sentence(rng, str(rng.choice(LABELS))).split()
    return Row(row_id, " ".join(words), text_pair=" ".join([*rng.permutation(words), "please"]))


ROW_MAKERS = {
    "pair": _pair_row,
    "multi-label-classification": _multi_label_row,
    "token-classification": _tagged_row,
    "text-embedding": _embedding_row,
}


def make_model(
    folder: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    task: str = "text-classification",
    text_pair: bool = False,
) -> None:
    """model.onnx and tokenizer.json: embeddings, masked mean, linear head that knows the words.
    With `text_pair` the words of the second text count twice."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = word_tokenizer()
    tokenizer.save(str(folder / TOKENIZER))
    rng = np.random.default_rng(seed)
    spread = 1.0 if task == "text-embedding" else 0.1
    table = rng.normal(0, spread, (tokenizer.get_vocab_size(), HIDDEN)).astype(np.float32)
    for i, label in enumerate(LABELS):
        for word in WORDS[label]:
            table[tokenizer.token_to_id(word), i] += 3.0
    head = np.zeros((HIDDEN, len(labels)), dtype=np.float32)
    for i, label in enumerate(labels):
        if label in LABELS:
            head[LABELS.index(label), i] = 4.0
    graph = GRAPHS[task](table, head)
    if text_pair:
        weigh_second_text(graph)
    onnx.save(as_model(graph), str(folder / MODEL))


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


def make_manifest(
    task: str = "text-classification",
    labels: tuple[str, ...] = LABELS,
    text_pair: bool = False,
    abstain_below: float | None = None,
) -> Manifest:
    """A manifest of no files."""
    measurement, accuracy, machine = figures()
    return Manifest(
        name="tiny",
        task=task,
        engine="onnx",
        candidate="onnx-fp32",
        labels=labels,
        max_tokens=64,
        deadline_ms=1000,
        created_at="2026-01-01T00:00:00+00:00",
        files=(),
        parents={},
        measurement=measurement,
        accuracy=accuracy,
        test_accuracy=1.0,
        budget={"max_accuracy_drop": 0.02},
        machine=machine,
        reference=no_reference(),
        tool_versions={},
        text_pair=text_pair,
        abstain_below=abstain_below,
    )


def make_bundle(
    path: Path,
    seed: int = 0,
    labels: tuple[str, ...] = LABELS,
    name: str = "tiny",
    reference: Reference | None = None,
    reference_npz: bytes = b"",
    task: str = "text-classification",
    text_pair: bool = False,
    abstain_below: float | None = None,
) -> Bundle:
    """A complete bundle around `make_model`."""
    known = () if task == "text-embedding" else labels

    def fill(folder: Path) -> None:
        make_model(folder, seed, labels, task, text_pair)
        model = OnnxModel(folder / MODEL, folder / TOKENIZER, max_tokens=64)
        golden = make_golden(TASKS[task], model, known, rows(task, 12, 99, text_pair))
        lines = "".join(f"{row.model_dump_json()}\n" for row in golden)
        (folder / GOLDEN).write_text(lines, encoding="utf-8")
        (folder / REFERENCE).write_bytes(reference_npz)
        (folder / CARD).write_text("# tiny\n")

    def manifest(files: tuple[FileEntry, ...]) -> Manifest:
        document = make_manifest(task, known, text_pair, abstain_below)
        changes: dict[str, object] = {"name": name, "files": files, "parents": {"seed": str(seed)}}
        changes |= {"reference": reference or no_reference()}
        return document.model_copy(update=changes)

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

"""The same training by Hugging Face Trainer and PEFT; Trainer's defaults but for what both sides
share. Prints one JSON document; takes turns as bench.finetune.ours does.

python -m bench.finetune.peer FOLDER --epochs N --batch-rows N --learning-rate X --seed N
"""

import argparse
import csv
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from bench.finetune.data import BASE
from bench.finetune.ours import peak_rss_bytes
from finetune.base import resolve_base

Rows = list[tuple[str, str]]


class Pace(TrainerCallback):  # type: ignore[misc]
    """Times every epoch, and waits for the turn before the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._started = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.monotonic()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.monotonic() - self._started)
        print("epoch", flush=True)
        sys.stdin.readline()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="bench.finetune.peer")
    parser.add_argument("folder", type=Path)
    for name, kind in (("epochs", int), ("batch-rows", int), ("seed", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    options = parser.parse_args()
    set_seed(options.seed)
    train, test = (read(options.folder / f"{name}.csv") for name in ("train", "test"))
    labels = sorted({label for _, label in train})
    base = resolve_base(BASE).folder
    tokenizer = AutoTokenizer.from_pretrained(base)
    trainer = _trainer(options, base, tokenizer, labels, encode(train, labels, tokenizer))
    pace = Pace()
    trainer.add_callback(pace)
    print("ready", flush=True)
    sys.stdin.readline()
    started = time.monotonic()
    trainer.train()
    seconds, rss_bytes = time.monotonic() - started, peak_rss_bytes()
    encoded = encode(test, labels, tokenizer)
    logits = trainer.predict(encoded).predictions
    right = np.array([row["labels"] for row in encoded]) == logits.argmax(axis=1)
    document = {
        "seconds": seconds,
        "rss_bytes": rss_bytes,
        "epoch_seconds": pace.seconds,
        "rows": len(train),
        "accuracy": float(right.mean()),
    }
    print(json.dumps(document), flush=True)


def read(path: Path) -> Rows:
    """(text, label) per row."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["label"]) for row in csv.DictReader(stream)]


def encode(rows: Rows, labels: list[str], tokenizer: Any) -> list[dict[str, Any]]:
    """Token ids as a user of Trainer makes them: no padding, the collator pads per batch."""
    tokenizer.backend_tokenizer.no_padding()
    found = tokenizer([text for text, _ in rows], truncation=True, max_length=128)
    index = {label: i for i, label in enumerate(labels)}
    return [
        {**{key: found[key][i] for key in found}, "labels": index[label]}
        for i, (_, label) in enumerate(rows)
    ]


def _trainer(
    options: argparse.Namespace, base: Path, tokenizer: Any, labels: list[str], rows: Any
) -> Trainer:
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), dtype=torch.float32
    )
    lora = LoraConfig(
        task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"
    )
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_rows,
        learning_rate=options.learning_rate,
        seed=options.seed,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    return Trainer(
        model=get_peft_model(model, lora),
        args=arguments,
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
    )


if __name__ == "__main__":
    main()

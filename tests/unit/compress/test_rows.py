"""Gate rows: test and reference rows, each once."""

import json
from pathlib import Path

import numpy as np
import pytest

from compress.rows import correct, read_calibration_texts, read_gate_rows
from edgeloop.errors import ExportError


def write(folder: Path, split: str, rows: list[tuple[str, str, str]]) -> None:
    lines = [
        json.dumps({"id": i, "text": t, "label": label}, ensure_ascii=False) for i, t, label in rows
    ]
    (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_a_row_of_both_splits_counts_once_and_as_a_test_row(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one", "a"), ("2", "two", "b")])
    write(tmp_path, "reference", [("2", "two", "b"), ("3", "three", "a")])
    rows = read_gate_rows(tmp_path)
    assert [(row.id, row.test) for row in rows] == [("1", True), ("2", True), ("3", False)]


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one\u2028two", "a")])
    write(tmp_path, "reference", [])
    assert read_gate_rows(tmp_path)[0].text == "one\u2028two"


def test_no_test_row_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "test", [])
    write(tmp_path, "reference", [("3", "three", "a")])
    with pytest.raises(ExportError, match="no test row"):
        read_gate_rows(tmp_path)


def test_correct_compares_labels_by_name(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one", "b"), ("2", "two", "a"), ("3", "x", "unknown")])
    write(tmp_path, "reference", [])
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], dtype=np.float32)
    assert correct(logits, ("a", "b"), read_gate_rows(tmp_path)).tolist() == [True, False, False]


def test_calibration_texts_are_spread_over_the_training_rows(tmp_path: Path) -> None:
    write(tmp_path, "train", [(str(i), f"text {i}", "a") for i in range(101)])
    assert read_calibration_texts(tmp_path, 3) == ["text 0", "text 50", "text 100"]
    assert len(read_calibration_texts(tmp_path, 500)) == 101

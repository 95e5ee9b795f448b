"""Rows to choose on and rows to judge on have none in common, and each counts once."""

import json
from pathlib import Path

import pytest

from compress.rows import read_gate_rows
from edgeloop.errors import ExportError


def write(folder: Path, split: str, rows: list[tuple[str, str, str]]) -> None:
    lines = [
        json.dumps({"id": i, "text": t, "label": label}, ensure_ascii=False) for i, t, label in rows
    ]
    (folder / f"{split}.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def test_a_row_of_both_splits_counts_once_and_as_a_test_row(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one", "a"), ("2", "two", "b")])
    write(tmp_path, "reference", [("2", "two", "b"), ("3", "three", "a")])
    write(tmp_path, "validation", [("4", "four", "a")])
    gate = read_gate_rows(tmp_path)
    assert [row.id for row in gate.judging] == ["1", "2", "3"]
    assert gate.is_test.tolist() == [True, True, False]


def test_no_row_is_both_chosen_and_judged_on(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one", "a")])
    write(tmp_path, "reference", [("2", "two", "b")])
    write(tmp_path, "validation", [("1", "one", "a"), ("2", "two", "b"), ("3", "three", "a")])
    assert [row.id for row in read_gate_rows(tmp_path).choosing] == ["3"]


def test_without_rows_to_choose_on_it_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one", "a")])
    write(tmp_path, "reference", [])
    write(tmp_path, "validation", [("1", "one", "a")])
    with pytest.raises(ExportError, match="no validation row.*data.split.validation"):
        read_gate_rows(tmp_path)


def test_a_line_separator_inside_a_text_does_not_end_the_row(tmp_path: Path) -> None:
    write(tmp_path, "test", [("1", "one\u2028two", "a")])
    write(tmp_path, "reference", [])
    write(tmp_path, "validation", [("2", "two", "a")])
    assert read_gate_rows(tmp_path).judging[0].text == "one\u2028two"


def test_no_test_row_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "test", [])
    write(tmp_path, "reference", [("3", "three", "a")])
    with pytest.raises(ExportError, match="no test row"):
        read_gate_rows(tmp_path)

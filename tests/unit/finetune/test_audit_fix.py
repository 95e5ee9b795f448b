import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import DatasetError
from edgeloop.recipe import Recipe
from edgeloop.rows import Row, Span
from finetune.audit import FOLDER, audit_rows, fix_rows
from finetune.audit.fix import Fixed
from tests.audited import recipe, rows

SPLIT_FILES = {
    "files": {"train": ["train.csv"], "validation": ["validation.csv"], "test": ["test.csv"]}
}


def fix(splits: dict[str, list[Row]], folder: Path, chosen: Recipe | None = None) -> Fixed:
    chosen = chosen or recipe()
    return fix_rows(splits, chosen, audit_rows(splits, chosen), folder)


def written(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FOLDER / name).read_bytes().splitlines()]


def test_whole_files_are_written_in_their_own_order_whatever_the_splits(tmp_path: Path) -> None:
    ten = rows([f"text {i}" for i in range(12)])
    splits = {"train": ten[::-2], "test": ten[::2]}
    fixed = fix(splits, tmp_path)
    assert [row["id"] for row in written(tmp_path, "rows.jsonl")] == [row.id for row in ten]
    assert fixed.rows == {"rows.jsonl": 12}
    assert fixed.recipe_lines == ("data:", "  files: [cleaned/rows.jsonl]")


def test_split_files_stay_split_and_a_borrowed_reference_is_not_written(tmp_path: Path) -> None:
    test = rows(["c"], prefix="t")
    splits = {
        "train": rows(["a"]),
        "validation": rows(["b"], prefix="v"),
        "reference": list(test),
        "test": test,
    }
    chosen = recipe(data={**SPLIT_FILES, "encoding": "cp1252"})
    fixed = fix(splits, tmp_path, chosen)
    assert list(fixed.rows) == ["train.jsonl", "validation.jsonl", "test.jsonl"]
    assert "    test: [cleaned/test.jsonl]" in fixed.recipe_lines
    assert fixed.recipe_lines[-1] == "  encoding: null"


def test_edits_of_one_row_add_up_and_each_is_logged_without_the_value(tmp_path: Path) -> None:
    row = Row(
        id="r",
        text="  Ann, at a@b.example ",
        spans=(Span(1, 6, "who"), Span(10, 21, "mail")),
        where="rows.jsonl:1",
    )
    fix({"train": [row]}, tmp_path, recipe("token-classification"))
    (after,) = written(tmp_path, "rows.jsonl")
    assert after["text"] == "Ann, at <email>"
    said = [after["text"][span["start"] : span["end"]] for span in after["spans"]]
    assert said == ["Ann", "<email>"]
    changes = written(tmp_path, "changes.jsonl")
    assert [change["what"] for change in changes] == [
        "outer-white-space",
        "loose-spans",
        "pii-email",
    ]
    assert changes[0]["before"]["text"] == "  Ann, at *@*.******* "
    assert [change["where"] for change in changes] == ["rows.jsonl:1"] * 3


def test_a_row_in_conflict_is_set_aside_and_not_removed_as_a_repeat(tmp_path: Path) -> None:
    train = rows(["x", "x", "x", "y"], ["a", "a", "b", "a"])
    fixed = fix({"train": train}, tmp_path)
    assert [row["id"] for row in written(tmp_path, "rows.jsonl")] == ["r3"]
    assert fixed.changes == {"conflicting-labels": 3}
    review = written(tmp_path, "for_review.jsonl")
    assert [(entry["row"]["id"], entry["kept"]) for entry in review] == [
        ("r0", False),
        ("r1", False),
        ("r2", False),
    ]


def test_near_leaks_are_kept_and_listed_for_review(tmp_path: Path) -> None:
    text = "a rather long text that both of the splits have but for its last word "
    splits = {"train": rows([text + "now"]), "test": rows([text + "yet"], prefix="t")}
    fix(splits, tmp_path)
    assert len(written(tmp_path, "rows.jsonl")) == 2
    (entry,) = written(tmp_path, "for_review.jsonl")
    assert (entry["why"], entry["kept"], entry["row"]["id"]) == ("near-leakage", True, "r0")


def test_a_row_for_review_that_is_removed_is_not_said_to_be_kept(tmp_path: Path) -> None:
    text = "a rather long text that both of the splits have but for its last word "
    train = rows([text + "now", text + "now"])
    fix({"train": train, "test": rows([text + "yet"], prefix="t")}, tmp_path)
    review = written(tmp_path, "for_review.jsonl")
    assert [(entry["row"]["id"], entry["kept"]) for entry in review] == [
        ("r0", True),
        ("r1", False),
    ]


def test_texts_with_odd_line_ends_stay_on_one_line(tmp_path: Path) -> None:
    fix({"train": rows(["a\u2028b\x85c\nd\u2029e"])}, tmp_path)
    lines = (tmp_path / FOLDER / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a\u2028b\x85c\nd\u2029e"]


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_what_is_there_is_never_overwritten(kind: str, tmp_path: Path) -> None:
    there = tmp_path / FOLDER
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="exists already; move it away"):
        fix({"train": rows(["a"])}, tmp_path)
    assert sorted(tmp_path.iterdir()) == [there]


def test_a_failing_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fix({"train": rows(["a"])}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fixing_fixed_rows_changes_nothing(tmp_path: Path) -> None:
    splits = {"train": rows([" a@b.example ", "x", "x", "+44 20 7946 0958"])}
    fix(splits, tmp_path)
    texts = [row["text"] for row in written(tmp_path, "rows.jsonl")]
    assert texts == ["<email>", "x", "<phone>"]
    again = tmp_path / "again"
    again.mkdir()
    assert fix({"train": rows(texts)}, again).changes == {}

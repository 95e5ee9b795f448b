"""`edgeloop check` and `--fix` on rows with everything wrong that can be put right."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgeloop.recipe import load_recipe
from edgeloop.rows import Row
from finetune.dataset import load
from tests import tiny
from tests.e2e.test_cli import run_cli


@pytest.fixture
def soiled(recipe: Path) -> Path:
    """Split files with a leak, a repeat, a conflict, personal data and outer white space."""
    drawn = tiny.sentences(100, seed=2)
    folder = recipe.parent
    tiny.write_rows(folder / "validation.csv", drawn[60:75], first_id=60)
    tiny.write_rows(folder / "test.csv", drawn[75:], first_id=75)
    train = [
        *drawn[:60],
        drawn[0],
        (drawn[80][0].upper(), drawn[80][1]),
        ("why is my card late", "billing"),
        ("Why is my card  late", "delivery"),
        ("please mail me at jane.doe@example.com", "billing"),
        ("  the pump is jammed again ", "repair"),
    ]
    tiny.write_rows(folder / "train.csv", train, first_id=1000)
    text = recipe.read_text().replace(
        "files: [rows.csv]",
        "files: {train: [train.csv], validation: [validation.csv], test: [test.csv]}",
    )
    text = "\n".join(line for line in text.splitlines() if "split:" not in line)
    recipe.write_text(text + "\n")
    return recipe


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_check_tells_findings_with_row_ids_and_no_personal_data(
    soiled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run_cli(capsys, monkeypatch, "check", str(soiled), "--json")
    assert (code, err) == (0, "")
    found = {finding["kind"]: finding for finding in json.loads(out)["findings"]}
    assert found["duplicates"]["rows"] == ["r1060"]
    assert found["leakage"]["rows"] == ["r1061"]
    assert found["conflicting-labels"]["rows"] == ["r1062", "r1063"]
    assert found["pii-email"]["rows"] == ["r1064"]
    assert found["outer-white-space"]["rows"] == ["r1065"]
    assert "jane.doe" not in out
    code, out, _ = run_cli(capsys, monkeypatch, "check", str(soiled))
    assert code == 0
    assert "warning    leakage: 1 train row with the same text as a row of test" in out
    assert "rows: r1062, r1063" in out
    assert "jane.doe" not in out
    assert not (soiled.parent / "cleaned").exists()


def test_fix_writes_rows_that_check_clean_with_a_log_and_leaves_the_originals(
    soiled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = soiled.parent
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    code, out, _ = run_cli(capsys, monkeypatch, "check", str(soiled), "--fix")
    assert code == 0
    assert "train: [cleaned/train.jsonl]" in out
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before
    cleaned = folder / "cleaned"
    assert not list(folder.glob(".cleaned*"))

    rows = {row["id"]: row for row in documents(cleaned / "train.jsonl")}
    assert {"r1060", "r1061", "r1062", "r1063"}.isdisjoint(rows)
    assert rows["r1064"]["text"] == "please mail me at <email>"
    assert rows["r1065"]["text"] == "the pump is jammed again"
    assert len(rows) == 62
    changes = {change["id"]: change for change in documents(cleaned / "changes.jsonl")}
    assert {name: change["what"] for name, change in changes.items()} == {
        "r1060": "duplicates",
        "r1061": "leakage",
        "r1062": "conflicting-labels",
        "r1063": "conflicting-labels",
        "r1064": "pii-email",
        "r1065": "outer-white-space",
    }
    assert changes["r1061"]["where"].endswith("train.csv:63")
    assert changes["r1061"]["after"] is None
    assert changes["r1065"]["before"]["text"] == "  the pump is jammed again "
    review = documents(cleaned / "for_review.jsonl")
    assert [entry["row"]["id"] for entry in review if not entry["kept"]] == ["r1062", "r1063"]
    assert not any(b"jane" in path.read_bytes() for path in cleaned.iterdir())

    files = [
        f"data.files.{name}=[cleaned/{name}.jsonl]" for name in ("train", "validation", "test")
    ]
    words = [word for key in files for word in ("--set", key)]
    code, out, _ = run_cli(capsys, monkeypatch, "check", str(soiled), *words, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["rows"]["train"] == 62
    assert {f["kind"] for f in document["findings"]}.isdisjoint(
        {"duplicates", "leakage", "conflicting-labels", "pii-email", "outer-white-space"}
    )


def test_fix_never_overwrites_what_is_there(
    soiled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (soiled.parent / "cleaned").mkdir()
    code, out, err = run_cli(capsys, monkeypatch, "check", str(soiled), "--fix")
    assert (code, out) == (2, "")
    assert "exists already" in err
    assert list((soiled.parent / "cleaned").iterdir()) == []


def test_a_text_over_the_limit_ends_with_2_unless_the_recipe_truncates(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = tiny.sentences(160, seed=1)
    drawn[5] = ("my " * 50 + "invoice", "billing")
    tiny.write_rows(recipe.parent / "rows.csv", drawn)
    code, out, _ = run_cli(capsys, monkeypatch, "check", str(recipe))
    assert code == 2
    assert "error      too-long: 1 row over 32 tokens (serve.max_tokens), the longest has 53" in out
    assert "rows: r5" in out
    words = ("check", str(recipe), "--set", "data.excess_length=truncate")
    assert run_cli(capsys, monkeypatch, *words)[0] == 0


TASKS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "multi-label-classification": (
        "columns: {label: tags, text_pair: more}",
        [
            {"id": f"m{i}", "text": f" a {i}", "more": f"b {i}", "tags": ["x", "y"][: i % 3]}
            for i in range(40)
        ],
    ),
    "token-classification": (
        "columns: {spans: found}",
        [
            {
                "id": f"t{i}",
                "text": f" to Rome, {i}\u2028x",
                "found": [{"start": 4, "end": 9, "label": "city"}],
            }
            for i in range(40)
        ],
    ),
    "text-embedding": (
        "columns: {text: anchor, slices: [tongue]}\n  split: {group: who}",
        [
            {
                "id": f"e{i}",
                "anchor": f"q {i}",
                "positive": f"p {i} ",
                "negative": [f"n {i}"],
                "tongue": "en",
                "who": str(i),
            }
            for i in range(40)
        ],
    ),
}


@pytest.mark.parametrize("task", TASKS)
def test_cleaned_rows_of_every_task_are_read_as_the_same_rows(
    task: str, recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys, written = TASKS[task]
    folder = recipe.parent
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    base = load_recipe(recipe).base
    recipe.write_text(
        f"name: tiny\ntask: {task}\nbase: {base}\ndata:\n  files: [rows.jsonl]\n  {keys}\n"
    )
    code, _, err = run_cli(capsys, monkeypatch, "check", str(recipe), "--fix")
    assert (code, err) == (0, "")
    cleaned = load(load_recipe(recipe, ["data.files=[cleaned/rows.jsonl]"])).splits
    original = load(load_recipe(recipe)).splits
    for split, rows in original.items():
        assert [row.id for row in cleaned[split]] == [row.id for row in rows]
        for before, after in zip(rows, cleaned[split], strict=True):
            assert after.text == before.text.strip()
            assert (after.labels, after.slices, after.key) == (
                before.labels,
                before.slices,
                before.key,
            )
            assert after.text_pair == (before.text_pair and before.text_pair.strip())
            assert surfaces(after) == [surface.strip(" ,") for surface in surfaces(before)]


def surfaces(row: Row) -> list[str]:
    return [row.text[span.start : span.end] for span in row.spans]

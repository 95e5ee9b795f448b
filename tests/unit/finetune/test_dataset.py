"""Loading a recipe's rows: the checks across rows and splits, and the audit."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from edgeloop.errors import DatasetError
from edgeloop.recipe import Columns, Data, Recipe, Split, SplitFiles, TaskName
from finetune.dataset import Rows, audit, source_files
from finetune.dataset import load as load_recipe_rows


def write(path: Path, rows: list[str], header: str = "id,text,label") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def labelled(label: str, count: int, first: int = 0) -> list[str]:
    return [f"{label}{i},text {label} {i},{label}" for i in range(first, first + count)]


def one_file(tmp_path: Path, rows: list[str], **split: Any) -> Data:
    return Data(files=(write(tmp_path / "rows.csv", rows),), split=Split(**split))


def split_files(tmp_path: Path, **rows: list[str]) -> Data:
    files = {name: (write(tmp_path / f"{name}.csv", lines),) for name, lines in rows.items()}
    return Data(files=SplitFiles(**files))


def recipe_of(data: Data, task: TaskName = "text-classification") -> Recipe:
    return Recipe(name="x", base="x", task=task, data=data)


def load(data: Data, task: TaskName = "text-classification") -> Rows:
    return load_recipe_rows(recipe_of(data, task))


def complaint(data: Data, task: TaskName = "text-classification") -> str:
    with pytest.raises(DatasetError) as raised:
        load(data, task)
    return str(raised.value)


def test_the_audit_counts_rows_per_split_and_label(tmp_path: Path) -> None:
    data = one_file(tmp_path, labelled("a", 200) + labelled("b", 100))
    found = audit(recipe_of(data))
    assert sum(found.rows[name] for name in ("train", "validation", "test")) == 300
    assert found.rows["reference"] == found.rows["test"]
    for name in found.rows:
        assert sum(found.labels[name].values()) == found.rows[name]
        assert set(found.labels[name]) == {"a", "b"}
    assert found.reference_is_test
    assert found.warnings == ()


def test_without_a_reference_the_test_rows_serve(tmp_path: Path) -> None:
    rows = load(one_file(tmp_path, labelled("a", 20) + labelled("b", 20)))
    assert rows.splits["reference"] == rows.splits["test"]


def test_a_reference_of_its_own(tmp_path: Path) -> None:
    data = split_files(
        tmp_path,
        train=labelled("a", 3) + labelled("b", 3),
        validation=labelled("a", 1, 10),
        reference=labelled("b", 1, 20),
        test=labelled("b", 1, 30),
    )
    rows = load(data)
    assert not rows.reference_is_test
    assert [row.id for row in rows.splits["reference"]] == ["b20"]


def test_duplicate_ids_are_named_with_both_places(tmp_path: Path) -> None:
    said = complaint(one_file(tmp_path, ["7,one,a", "8,two,b", "7,three,a"]))
    path = tmp_path / "rows.csv"
    assert said == f"{path}:4: id '7' is taken by {path}:2; ids are unique"


def test_one_class_only(tmp_path: Path) -> None:
    assert "all others have the label 'a'; two classes" in complaint(
        one_file(tmp_path, labelled("a", 20))
    )


def test_a_class_with_one_row(tmp_path: Path) -> None:
    said = complaint(one_file(tmp_path, labelled("a", 20) + labelled("b", 20) + ["x,solo,c"]))
    assert said == (f"{tmp_path}/rows.csv:42: label 'c' has this one row; a class needs at least 2")


def test_a_label_that_train_lacks(tmp_path: Path) -> None:
    data = split_files(
        tmp_path,
        train=labelled("a", 3) + labelled("b", 3),
        validation=labelled("a", 1, 10) + labelled("typo", 2),
        test=labelled("b", 1, 30),
    )
    said = complaint(data)
    assert f"{tmp_path}/validation.csv:3: label 'typo' is in validation but not in train" in said
    assert len(said.splitlines()) == 1


def test_a_split_without_rows(tmp_path: Path) -> None:
    rows = labelled("a", 2) + labelled("b", 2)  # too few for validation and test
    assert "test: the split has no rows" in complaint(
        one_file(tmp_path, rows, train=0.98, validation=0.01, test=0.01)
    )


def test_problems_of_several_files_come_at_once(tmp_path: Path) -> None:
    data = split_files(
        tmp_path,
        train=["1,,a"],
        validation=["2,hello,"],
        test=["3,hello,a", "3,hello again,a"],
    )
    said = complaint(data).splitlines()
    assert [line.partition(": ")[2].partition(";")[0] for line in said] == [
        "text is empty",
        "label is empty",
        f"id '3' is taken by {tmp_path}/test.csv:2",
    ]


def test_repeated_texts_are_warned_of(tmp_path: Path) -> None:
    data = split_files(
        tmp_path,
        train=[*labelled("a", 3), *labelled("b", 3), "r1,text a 0,a"],
        validation=labelled("a", 1, 10),
        test=[*labelled("b", 1, 30), "r2,Text  A 1,a"],
    )
    repeated, crossing = load(data).warnings
    assert repeated == (f"train: 1 rows repeat the text of another (first: {tmp_path}/train.csv:8)")
    assert crossing == (
        f"train and test share 1 texts (first: {tmp_path}/train.csv:3 and {tmp_path}/test.csv:3)"
    )


def test_the_example_is_sound(recwarn: pytest.WarningsRecorder) -> None:
    folder = Path(__file__).parents[3] / "examples" / "support_tickets"
    files = {
        name: (folder / "data" / f"{name}.csv",)
        for name in ("train", "validation", "reference", "test")
    }
    rows = load(Data(files=SplitFiles(**files)))
    assert rows.warnings == ()
    assert len({row.label for row in rows.splits["train"]}) >= 12


def documents(tmp_path: Path, rows: list[dict[str, Any]], **data: Any) -> Data:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Data(files=(path,), **data)


def test_several_labels_are_each_counted(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": ["a", "b"][: i % 3]} for i in range(90)]
    found = audit(recipe_of(documents(tmp_path, rows), "multi-label-classification"))
    train = found.labels["train"]
    assert found.rows["train"] > train["a"] > train["b"] > 0
    assert set(train) == {"a", "b"}


def test_of_several_labels_one_needs_two_rows(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": [f"label {i}"]} for i in range(40)]
    said = complaint(documents(tmp_path, rows), "multi-label-classification")
    assert "no label has two rows, here or in any other row" in said
    assert "not in train" not in said
    rows += [{"text": f"more {i}", "label": ["label 0"]} for i in range(40)]
    splits = load(documents(tmp_path, rows), "multi-label-classification").splits
    assert len({label for row in splits["train"] for label in row.labels}) == 40


def test_spans_are_counted_by_type(tmp_path: Path) -> None:
    span = {"start": 3, "end": 5, "label": "time"}
    rows: list[dict[str, Any]] = [
        {"text": f"at {i:02d}", "spans": [span] * (i % 2)} for i in range(80)
    ]
    found = audit(recipe_of(documents(tmp_path, rows), "token-classification"))
    assert set(found.labels["train"]) == {"time"}
    assert 0 < found.labels["train"]["time"] < found.rows["train"]


def test_a_tagger_needs_a_span_to_train_on(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "spans": []} for i in range(40)]
    said = complaint(documents(tmp_path, rows), "token-classification")
    assert "neither this row nor any other of train has a span; mark at least one" in said


def test_an_entity_that_train_lacks(tmp_path: Path) -> None:
    files: dict[str, tuple[Path, ...]] = {}
    for name, kind in (("train", "a"), ("validation", "a"), ("test", "b")):
        path = tmp_path / f"{name}.csv"
        spans = json.dumps([{"start": 0, "end": 4, "label": kind}]).replace('"', '""')
        path.write_text(f'text,spans\ntext {name},"{spans}"\n')
        files[name] = (path,)
    said = complaint(Data(files=SplitFiles(**files)), "token-classification")
    assert said.startswith(f"{tmp_path}/test.csv:2: label 'b' is in test but not in train")


def test_pairs_need_no_labels(tmp_path: Path) -> None:
    rows = [{"text": f"question {i}", "positive": f"answer {i}"} for i in range(60)]
    found = audit(recipe_of(documents(tmp_path, rows), "text-embedding"))
    assert sum(found.rows[name] for name in ("train", "validation", "test")) == 60
    assert found.labels["train"] == {}
    assert found.warnings == ()


def test_a_text_with_another_second_text_is_no_repetition(tmp_path: Path) -> None:
    rows = [
        {"text": "yes", "slot": f"slot {i}", "spans": [{"start": 0, "end": 3, "label": "yes"}]}
        for i in range(60)
    ]
    data = documents(tmp_path, rows, columns=Columns(text_pair="slot"))
    assert load(data, "token-classification").warnings == ()
    repeated = documents(tmp_path, rows + rows[:5], columns=Columns(text_pair="slot"))
    warnings = load(repeated, "token-classification").warnings
    assert sum(int(w.partition(": ")[2].partition(" ")[0]) for w in warnings) >= 5
    assert not any("share" in warning for warning in warnings if "test" not in warning)


def test_rows_that_are_added_move_none(tmp_path: Path) -> None:
    old = labelled("a", 60) + labelled("b", 60)

    def places(rows: list[str]) -> dict[str, str]:
        splits = load(one_file(tmp_path, rows)).splits
        return {row.id: n for n in ("train", "validation", "test") for row in splits[n]}

    before, after = places(old), places([*labelled("b", 20, 60), *old, *labelled("c", 20)])
    assert before.items() <= after.items()


def test_a_guessed_encoding_is_among_the_warnings(tmp_path: Path) -> None:
    rows = [f"a{i},prüfen größe maß {i},a" for i in range(30)] + labelled("b", 30)
    data = one_file(tmp_path, rows)
    path = tmp_path / "rows.csv"
    path.write_bytes(path.read_text().encode("cp1252"))
    assert load(data).warnings == (f"{path}: not UTF-8, read as cp1252; set data.encoding",)


def test_a_dataset_folder_is_all_its_files(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {i}" for i in range(40)], "label": ["a", "b"] * 20})
    folder = tmp_path / "saved"
    folder.mkdir()
    name = "data-00000-of-00001.arrow"
    with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (folder / "dataset_info.json").write_text('{"features": {}}')
    data = Data(files=(folder,))
    assert [path.name for _, path in source_files(data)] == [
        name,
        "dataset_info.json",
        "state.json",
    ]
    assert sum(len(rows) for rows in load(data).splits.values()) > 40


# -- texts without labels ----------------------------------------------------------------------


def with_unlabelled(tmp_path: Path, texts: list[str], **columns: Any) -> Data:
    rows = [json.dumps({"text": text, "other": f"to {text}"}) for text in texts]
    (tmp_path / "more.jsonl").write_text("\n".join(rows) + "\n")
    data = one_file(tmp_path, labelled("a", 40) + labelled("b", 40))
    return data.model_copy(
        update={"unlabelled": (tmp_path / "more.jsonl",), "columns": Columns(**columns)}
    )


def test_unlabelled_texts_need_no_label_column(tmp_path: Path) -> None:
    rows = load(with_unlabelled(tmp_path, ["one", "two"])).unlabelled
    assert [(row.text, row.labels) for row in rows] == [("one", ()), ("two", ())]
    assert rows[0].where.endswith("more.jsonl:1")


def test_unlabelled_texts_of_a_split_or_twice_there_are_left_out_and_told(tmp_path: Path) -> None:
    found = load(with_unlabelled(tmp_path, ["Text  A 3", "new", "NEW", "text b 7"]))
    assert [row.text for row in found.unlabelled] == ["new"]
    assert any("unlabelled: 3 of 4 texts are left out" in line for line in found.warnings)


def test_without_unlabelled_files_there_are_no_such_texts(tmp_path: Path) -> None:
    assert load(one_file(tmp_path, labelled("a", 40) + labelled("b", 40))).unlabelled == ()


def test_bad_unlabelled_rows_are_told_with_their_line(tmp_path: Path) -> None:
    data = with_unlabelled(tmp_path, ["one", " "])
    assert "more.jsonl:2: text is empty" in complaint(data)


def test_unlabelled_files_are_sources_and_change_a_runs_digest(tmp_path: Path) -> None:
    data = with_unlabelled(tmp_path, ["one"])
    assert ("unlabelled", tmp_path / "more.jsonl") in source_files(data)

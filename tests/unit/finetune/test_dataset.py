"""Loading a recipe's rows: the checks across rows and splits, and the audit."""

from pathlib import Path
from typing import Any

import pytest

from edgeloop.errors import DatasetError
from edgeloop.recipe import Data, Recipe, Split, SplitFiles
from finetune.dataset import audit, load


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


def complaint(data: Data) -> str:
    with pytest.raises(DatasetError) as raised:
        load(data)
    return str(raised.value)


def test_the_audit_counts_rows_per_split_and_label(tmp_path: Path) -> None:
    data = one_file(tmp_path, labelled("a", 20) + labelled("b", 10))
    found = audit(Recipe(name="x", base="x", data=data))
    assert found.rows == {"train": 24, "validation": 3, "reference": 3, "test": 3}
    assert found.labels["train"] == {"a": 16, "b": 8}
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
    rows = labelled("a", 2) + labelled("b", 2)
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

"""The row of any task and the jsonl of a split."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.rows import Row, Span, read_rows, write_rows

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
ROWS = st.builds(
    Row,
    id=TEXT,
    text=TEXT,
    labels=st.lists(TEXT, max_size=3).map(tuple),
    text_pair=st.none() | TEXT,
    spans=st.lists(st.builds(Span, st.integers(0, 9), st.integers(10, 20), TEXT), max_size=2).map(
        tuple
    ),
    negatives=st.lists(TEXT, max_size=2).map(tuple),
    slices=st.dictionaries(TEXT, TEXT, max_size=2).map(lambda d: tuple(sorted(d.items()))),
)


@given(rows=st.lists(ROWS, max_size=5))
def test_rows_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "train.jsonl", rows)
    assert read_rows(folder, "train") == rows
    assert len((folder / "train.jsonl").read_text(encoding="utf-8").splitlines()) == len(rows)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    row = Row("a", "b\u2028c", ("x",), slices=(("source", "mail"),))
    for name in ("one", "two"):
        write_rows(tmp_path / f"{name}.jsonl", [row])
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_a_split_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert read_rows(tmp_path, "fresh") == []


@pytest.mark.parametrize("line", ["{", "[]", '{"id": "a"}', '{"id":"a","text":"b","spans":[1]}'])
def test_a_damaged_split_says_so(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.jsonl").write_text(line)
    with pytest.raises(DatasetError, match=r"train\.jsonl: the rows cannot be read"):
        read_rows(tmp_path, "train")


def test_where_and_key_are_not_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [Row("a", "b", ("x",), key="k", where="f:1")])
    assert read_rows(tmp_path, "train") == [Row("a", "b", ("x",))]


def test_the_class_of_several_labels_is_all_of_them_in_order() -> None:
    assert Row("a", "t", ("b", "a")).label == "a|b"
    assert Row("a", "t").label == ""


def test_a_row_with_a_second_text_is_read_as_a_pair() -> None:
    assert Row("a", "t").input == "t"
    assert Row("a", "t", text_pair="u").input == ("t", "u")

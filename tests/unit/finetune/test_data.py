"""Readers: what is read, and what is said about bad input."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.errors import DatasetError
from edgeloop.recipe import Columns
from finetune.data import (
    MAX_CELL_BYTES,
    MAX_PROBLEMS_SHOWN,
    Problems,
    Row,
    read_rows,
    read_split,
    write_split,
)


def read(*paths: Path, key: str | None = None, columns: Columns | None = None) -> list[Row]:
    problems = Problems()
    rows = read_rows(paths, columns or Columns(), key, problems)
    problems.raise_if_any()
    return rows


def complaint(path: Path, data: str | bytes, key: str | None = None) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DatasetError) as raised:
        read(path, key=key)
    return str(raised.value)


def contents(rows: list[Row]) -> list[tuple[str, str, str]]:
    return [(row.id, row.text, row.label) for row in rows]


def test_the_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    expected = [("1", 'no water, "again"\nat all', "fault"), ("2", "obrigado, já chegou", "order")]
    names = ("id", "text", "label")
    (tmp_path / "rows.csv").write_text(
        '\ufeffid,text,label\n1,"no water, ""again""\nat all",fault\n\n2,"obrigado, já chegou",'
        " order \n"
    )
    documents = [dict(zip(names, row, strict=True)) for row in expected]
    (tmp_path / "rows.jsonl").write_text("\n\n".join(json.dumps(d) for d in documents) + "\n")
    pq.write_table(pa.Table.from_pylist(documents), tmp_path / "rows.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        assert contents(read(tmp_path / f"rows.{suffix}")) == expected


def test_where_tells_the_line_on_which_a_row_begins(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('id,text,label\n1,"two\nlines",a\n2,next,b\n')
    assert [row.where for row in read(path)] == [f"{path}:2", f"{path}:4"]


def test_numbers_serve_as_labels_and_dates_as_keys(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    table = pa.Table.from_pylist([{"text": "hi", "label": 3, "at": moment}])
    pq.write_table(table, tmp_path / "rows.parquet")
    [row] = read(tmp_path / "rows.parquet", key="at")
    assert (row.label, row.key) == ("3", "2026-01-05T00:00:00+00:00")


def test_made_ids_do_not_change_when_rows_are_added(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nold one,a\nold two,b\n")
    before = {row.text: row.id for row in read(path)}
    path.write_text("text,label\nnew,a\nold two,b\nold one,a\nold one,a\n")
    after = read(path)
    assert {row.text: row.id for row in after[:3]} | before == {
        row.text: row.id for row in after[:3]
    }
    assert len({row.id for row in after}) == 4


def test_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("body,topic\nhello,a\n")
    [row] = read(path, columns=Columns(text="body", label="topic"))
    assert (row.text, row.label) == ("hello", "a")


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    said = complaint(path, "id;text;label\n1;hello;a\n")
    assert f"{path}: column 'text' is missing; the file has id;text;label" in said
    assert "column 'label' is missing" in said


def test_a_missing_key_column(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.csv", "text,label\nhello,a\n", key="customer")
    assert "column 'customer' is missing; the file has text, label" in said


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (",a", ":2: text is empty"),
        ("  ,a", ":2: text is empty"),
        ("hello,", ":2: label is empty"),
        ("hello,a,b", ":2: 3 cells, the header has 2; put double quotes around a cell that holds"),
        ('"open,a\n', ":2: malformed csv"),
        ("é" * 60_000 + ",a", f":2: text has 120000 bytes, at most {MAX_CELL_BYTES}: ééé"),
        ("x" * 2_000_000 + ",a", f":2: a cell is over {MAX_CELL_BYTES} bytes"),
    ],
)
def test_bad_csv_rows_are_named_by_line(tmp_path: Path, cells: str, expected: str) -> None:
    path = tmp_path / "rows.csv"
    said = complaint(path, f"text,label\n{cells}\n")
    assert f"{path}{expected}" in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"text": "a", "label"', "not JSON"),
        ("[1, 2]", "not a JSON object: [1, 2]"),
        ('{"text": "a"}', "column 'label' is missing; the file has text"),
        ('{"text": ["a"], "label": "b"}', "text is ['a'], text is needed"),
        ('{"text": "a", "label": true}', "label is True, text is needed"),
        ('{"text": "a", "label": null}', "label is empty"),
        ('{"text": "a", "label": "b", "id": ""}', "id is empty"),
        ('{"text": "\\ud83d", "label": "b"}', "text holds half a surrogate pair"),
        ('{"text": "' + "x" * 2_000_000 + '", "label": "b"}', "text has 2000000 bytes"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_bad_jsonl_lines_are_named_by_line(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "rows.jsonl"
    said = complaint(path, f'{{"text": "a", "label": "b"}}\n{line}\n')
    assert f"{path}:2: {expected}" in said
    assert len(said) < 400


@pytest.mark.parametrize("prefix_bytes", [0, 3, (1 << 20) - 1, (1 << 20) + 5])
def test_not_utf8_tells_the_byte_offset(tmp_path: Path, prefix_bytes: int) -> None:
    path = tmp_path / "rows.csv"
    said = complaint(path, b"x" * prefix_bytes + b"\xc3\x28 and more")
    assert f"{path}: not UTF-8: byte 0xc3 at byte offset {prefix_bytes}" in said


def test_a_file_that_ends_inside_a_character_is_not_utf8(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.csv", b"text,label\na,b\xe2\x82")
    assert "byte 0xe2 at byte offset 14" in said


@pytest.mark.parametrize("data", ["", "text,label\n", "\n"])
def test_a_csv_without_rows(tmp_path: Path, data: str) -> None:
    said = complaint(tmp_path / "rows.csv", data)
    assert "the file has no rows" in said or "column 'text' is missing" in said


def test_missing_and_unknown_files_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DatasetError) as raised:
        read(tmp_path / "gone.csv", tmp_path / "rows.xlsx")
    assert "gone.csv: there is no such file" in str(raised.value)
    assert "rows.xlsx: unknown kind '.xlsx'; use .csv, .jsonl, .parquet" in str(raised.value)


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.parquet", b"PAR1 and nothing else")
    assert "rows.parquet: not a parquet file that can be read" in said


def test_only_the_first_problems_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.csv", "text,label\n" + ",a\n" * 30)
    assert len(said.splitlines()) == MAX_PROBLEMS_SHOWN + 1
    assert said.endswith("and 10 more")


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(rows=st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=5))
def test_a_split_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("split") / "train.jsonl"
    write_split(path, [Row(*row) for row in rows])
    assert contents(read_split(path)) == rows
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(rows)

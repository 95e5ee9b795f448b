"""Wide tables in chunks, from every kind of file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from edgeloop.errors import DatasetError
from monitor import tables
from monitor.tables import ArrayTable, Floats, Joined, Stretch, Table, open_table

ROWS = 70


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", 16)


def whole(table: Table, *columns: str) -> Floats:
    chunks = list(table.chunks(columns or table.columns))
    assert all(1 <= len(chunk) <= 16 for chunk in chunks)
    return np.concatenate(chunks)


def write(path: Path, columns: dict[str, list[object]]) -> Path:
    """The columns in the file's own kind; None is a missing value."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".npz":
        arrays: dict[str, Any] = {name: np.array(own) for name, own in columns.items()}
        np.savez(path, **arrays)
    else:
        lines = [",".join(columns)]
        for row in zip(*columns.values(), strict=True):
            lines.append(",".join("" if cell is None else str(cell) for cell in row))
        path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("kind", ["csv", "npz", "parquet"])
def test_columns_of_numbers_are_read_the_others_named(kind: str, tmp_path: Path) -> None:
    known: dict[str, list[object]] = {
        "id": list(range(ROWS)),
        "length": [float(i) for i in range(ROWS)],
        "word": [f"w{i}" for i in range(ROWS)],
        "count": [i % 3 for i in range(ROWS)],
    }
    table = open_table(write(tmp_path / f"t.{kind}", known))
    assert set(table.columns) == {"length", "count"}
    assert set(table.left_out) == {"id", "word"}
    assert table.rows == ROWS
    found = whole(table, "count", "length")
    assert found[:, 0].tolist() == known["count"]
    assert found[:, 1].tolist() == known["length"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_missing_values_are_nan(kind: str, tmp_path: Path) -> None:
    values: list[object] = [None if i % 4 == 3 else i / 2 for i in range(ROWS)]
    found = whole(open_table(write(tmp_path / f"t.{kind}", {"a": values, "b": [1.5] * ROWS})))
    assert np.isnan(found[:, 0]).tolist() == [i % 4 == 3 for i in range(ROWS)]
    assert found[2].tolist() == [1.0, 1.5]


def test_csv_may_be_quoted_or_divided_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('note;a;b\n"x; ""y""\nz";1;NA\n;2;3e2\n')
    table = open_table(path)
    assert (table.columns, table.left_out) == (("a", "b"), ("note",))
    found = whole(table)
    assert found[1].tolist() == [2.0, 300.0]
    assert np.isnan(found[0, 1])
    path = tmp_path / "t.tsv"
    path.write_text("\ufeffa\tb\n1\t2\n")
    assert whole(open_table(path)).tolist() == [[1.0, 2.0]]


def test_one_wide_array_has_its_names_beside_it(tmp_path: Path) -> None:
    path, values = tmp_path / "t.npz", np.arange(40.0).reshape(20, 2)
    np.savez(path, features=values, names=np.array(["x", "y"]), rest=np.ones(3))
    table = open_table(path)
    assert (table.columns, table.left_out, table.rows) == (("x", "y"), ("rest",), 20)
    assert whole(table, "y")[:, 0].tolist() == values[:, 1].tolist()
    np.savez(path, features=values)
    assert open_table(path).columns == ("features[0]", "features[1]")
    np.savez(path, features=values, names=np.array(["x", "x"]))
    with pytest.raises(DatasetError, match="1 different names for 2 columns"):
        open_table(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", "", "no column holds numbers"),
        ("t.csv", "a,b\nx,y\n", r"no column holds numbers \(the columns: a, b\)"),
        ("t.csv", "a,a\n1,2\n", "two columns have the same name"),
        ("t.npz", "PK", "not an .npz file"),
        ("t.parquet", "PAR1", "not a parquet file"),
        ("t.xls", "", "unknown kind '.xls' of a table; use .csv, .npz, .parquet, .tsv"),
    ],
)
def test_what_is_no_table_is_bad_input(name: str, content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DatasetError, match=said):
        open_table(path)
    with pytest.raises(DatasetError, match="no such file"):
        open_table(tmp_path / "none.csv")


def test_a_wrong_cell_further_down_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [f"{i},1" for i in range(1_200)]
    path.write_text("\n".join(["a,b", *lines, "oops,1"]))
    with pytest.raises(DatasetError, match=r"t\.csv:1202: a is 'oops'"):
        whole(open_table(path))
    path.write_text("\n".join(["a,b", *lines, "1,2,3", "1,"]))
    with pytest.raises(DatasetError, match=r"t\.csv:1202: 3 cells, the header has 2"):
        whole(open_table(path))


def test_tables_are_joined_and_cut(tmp_path: Path) -> None:
    first = ArrayTable("one", ("a", "b"), np.arange(40.0).reshape(20, 2))
    second = ArrayTable("two", ("b", "c"), 100.0 + np.arange(80.0).reshape(40, 2), ("word",))
    both = Joined([first, second])
    assert (both.columns, both.left_out, both.rows) == (("b",), ("a", "c", "word"), 60)
    column = whole(both)[:, 0]
    assert column.tolist() == [*range(1, 41, 2), *range(100, 180, 2)]
    for start, stop in ((0, 5), (5, 17), (17, 33), (30, None), (60, None)):
        part = Stretch(both, start, stop, "part")
        assert part.rows == len(column[start:stop])
        if part.rows:
            assert whole(part)[:, 0].tolist() == column[start:stop].tolist()
        else:
            assert list(part.chunks(("b",))) == []

"""Files to rows: what is read for each task, and what is said about bad rows."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from edgeloop.errors import DatasetError
from edgeloop.recipe import Columns, Data, TaskName
from edgeloop.rows import Row, Span
from finetune.data import (
    MAX_CELL_BYTES,
    MAX_PROBLEMS_SHOWN,
    Problems,
    Wanted,
    read_files,
    read_labelled,
)

CLASSES: TaskName = "text-classification"
SEVERAL: TaskName = "multi-label-classification"
TAGS: TaskName = "token-classification"
PAIRS: TaskName = "text-embedding"


def wanted(
    *, task: TaskName = CLASSES, key: str | None = None, data: dict[str, Any] | None = None
) -> Wanted:
    return Wanted.of(Data(files=(Path("unused"),), **(data or {})), task, key)


def read(*paths: Path, **asked: Any) -> list[Row]:
    problems = Problems()
    rows = read_files(paths, wanted(**asked), problems)
    problems.raise_if_any()
    return rows


def complaint(path: Path, data: str | bytes, **asked: Any) -> str:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DatasetError) as raised:
        read(path, **asked)
    return str(raised.value)


def jsonl(folder: Path, *documents: dict[str, Any]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def said_of(folder: Path, document: dict[str, Any], task: TaskName, **asked: Any) -> str:
    """The complaint about the one row, without the place."""
    with pytest.raises(DatasetError) as raised:
        read(jsonl(folder, document), task=task, **asked)
    return str(raised.value).replace(f"{folder}/rows.jsonl:1: ", "")


def contents(rows: list[Row]) -> list[tuple[str, str, str]]:
    return [(row.id, row.text, row.label) for row in rows]


def test_the_formats_give_the_same_rows(tmp_path: Path) -> None:
    expected = [("1", 'no water, "again"\nat all', "fault"), ("2", "obrigado, já chegou", "order")]
    names = ("id", "text", "label")
    comma = (
        'id,text,label\n1,"no water, ""again""\nat all",fault\n\n2,"obrigado, já chegou", order \n'
    )
    (tmp_path / "rows.csv").write_text("\ufeff" + comma)
    (tmp_path / "rows.tsv").write_text(
        'id\ttext\tlabel\n1\t"no water, ""again""\nat all"\tfault\n2\tobrigado, já chegou\torder\n'
    )
    documents = [dict(zip(names, row, strict=True)) for row in expected]
    jsonl(tmp_path, *documents)
    pq.write_table(pa.Table.from_pylist(documents), tmp_path / "rows.parquet")
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
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
    assert after[2].key == after[3].key == after[2].id


def test_a_made_id_of_a_pair_follows_from_both_texts(tmp_path: Path) -> None:
    documents = [{"text": "a", "positive": p} for p in ("b", "c", "b")]
    first, second, third = read(jsonl(tmp_path, *documents), task=PAIRS)
    assert len({first.id, second.id, third.id}) == 3
    assert first.key == third.key != second.key


def test_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("body,topic\nhello,a\n")
    [row] = read(path, data={"columns": Columns(text="body", label="topic")})
    assert (row.text, row.label) == ("hello", "a")


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    said = complaint(path, "id,body,label\n1,hello,a\n")
    assert said == (
        f"{path}: column 'text' is missing; the file has id, body, label "
        "(name yours in data.columns)"
    )


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


@pytest.mark.parametrize("data", ["", "text,label\n", "\n"])
def test_a_csv_without_rows(tmp_path: Path, data: str) -> None:
    said = complaint(tmp_path / "rows.csv", data)
    assert "the file has no rows" in said or "column 'text' is missing" in said


def test_missing_and_unknown_files_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(DatasetError) as raised:
        read(tmp_path / "gone.csv", tmp_path / "rows.xlsx")
    assert "gone.csv: there is no such file" in str(raised.value)
    assert (
        "rows.xlsx: unknown kind '.xlsx'; use .csv, .jsonl, .parquet, .tsv or the folder of a "
        "Hugging Face dataset" in str(raised.value)
    )


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.parquet", b"PAR1 and nothing else")
    assert "rows.parquet: not a parquet file that can be read" in said


def test_only_the_first_problems_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    said = complaint(tmp_path / "rows.csv", "text,label\n" + ",a\n" * 30)
    assert len(said.splitlines()) == MAX_PROBLEMS_SHOWN + 1
    assert said.endswith("and 10 more")


def test_a_second_text_is_read_where_it_is_named(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"text": "a", "hypothesis": "b", "label": "x"})
    [row] = read(path, data={"columns": Columns(text_pair="hypothesis")})
    assert row.input == ("a", "b")
    assert read(path)[0].input == "a"
    blank = {"text": "a", "hypothesis": " ", "label": "x"}
    said = said_of(tmp_path, blank, CLASSES, data={"columns": Columns(text_pair="hypothesis")})
    assert said == "hypothesis is empty; fill it in or remove the row"


def test_slices_are_kept_as_text_and_may_be_empty(tmp_path: Path) -> None:
    columns = Columns(slices=("channel", "vip", "age"))
    documents: list[dict[str, Any]] = [
        {"text": "a", "label": "x", "channel": "web", "vip": True, "age": 41},
        {"text": "b", "label": "x", "channel": None, "vip": 0.5, "age": ""},
    ]
    rows = read(jsonl(tmp_path, *documents), data={"columns": columns})
    assert rows[0].slices == (("channel", "web"), ("vip", "True"), ("age", "41"))
    assert rows[1].slices == (("channel", ""), ("vip", "0.5"), ("age", ""))
    said = said_of(tmp_path, {"text": "a", "label": "x"}, CLASSES, data={"columns": columns})
    assert "column 'channel' is missing" in said


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["b", "a"], ("a", "b")),
        (["a", "a", 3], ("3", "a")),
        ("b| a", ("a", "b")),
        ("a", ("a",)),
        (7, ("7",)),
        ([], ()),
        ("", ()),
        (None, ()),
    ],
)
def test_several_labels_or_none(tmp_path: Path, value: Any, expected: tuple[str, ...]) -> None:
    [row] = read(jsonl(tmp_path, {"text": "hi", "label": value}), task=SEVERAL)
    assert row.labels == expected


def test_several_labels_in_a_csv_cell_with_another_separator(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\nhi,b; a\nho,\n")
    rows = read(path, task=SEVERAL, data={"label_separator": ";"})
    assert [row.labels for row in rows] == [("a", "b"), ()]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a||b", "label is empty; fill it in or remove the row"),
        (["a", None], "label is empty; fill it in or remove the row"),
        ([["a"]], "label is ['a'], text is needed"),
        (["a|b"], "label holds 'a|b'; '|' divides the labels of a row"),
    ],
)
def test_bad_labels_of_several(tmp_path: Path, value: Any, expected: str) -> None:
    assert said_of(tmp_path, {"text": "hi", "label": value}, SEVERAL).startswith(expected)


def test_tokens_and_tags_become_a_text_with_spans(tmp_path: Path) -> None:
    document = {"tokens": ["In", "New", "York", "."], "ner_tags": ["O", "B-LOC", "I-LOC", "O"]}
    [row] = read(jsonl(tmp_path, document), task=TAGS)
    assert (row.text, row.spans) == ("In New York .", (Span(3, 11, "LOC"),))


def test_tokens_win_over_a_text_that_is_there_as_well(tmp_path: Path) -> None:
    document = {"text": "x", "spans": [], "tokens": ["a"], "ner_tags": ["S-X"]}
    [row] = read(jsonl(tmp_path, document), task=TAGS)
    assert (row.text, row.spans) == ("a", (Span(0, 1, "X"),))


@pytest.mark.parametrize(
    ("tokens", "tags", "expected"),
    [
        ([], [], "tokens is empty; fill it in or remove the row"),
        (["a", "b"], ["O"], "ner_tags has 1 tags for 2 tokens"),
        (["a", " "], ["O", "O"], "tokens is empty; fill it in or remove the row"),
        (["a "], ["O"], "tokens holds 'a '; leave outer white space out"),
        (["a"], [1], "ner_tags holds 1; numbers say no names; write tags such as B-PER, or bring"),
        (["a"], ["PER"], "ner_tags holds 'PER'; a tag is O, or B-, I-, E-, S-, L- or U- and"),
        (["a"], ["B-"], "ner_tags holds 'B-'; a tag is O"),
        (["a"], ["B-\ud83d"], "ner_tags holds half a surrogate pair"),
        ("a b", ["O"], "tokens is 'a b', a list is needed (in a csv cell as JSON)"),
    ],
)
def test_bad_tokens_and_tags(tmp_path: Path, tokens: Any, tags: Any, expected: str) -> None:
    said = said_of(tmp_path, {"tokens": tokens, "ner_tags": tags}, TAGS)
    assert said.splitlines()[0].startswith(expected)


def test_text_with_spans_in_jsonl_and_as_json_in_a_csv_cell(tmp_path: Path) -> None:
    spans = [{"start": 8, "end": 13, "label": "day"}, {"start": 0, "end": 4, "label": "verb"}]
    documents: list[dict[str, Any]] = [
        {"text": "Come by today", "spans": spans, "slot": "date"},
        {"text": "No", "spans": None, "slot": "date"},
    ]
    (tmp_path / "rows.csv").write_text(
        'text,spans,slot\nCome by today,"' + json.dumps(spans).replace('"', '""') + '",date\n'
        "No,,date\n"
    )
    columns = Columns(text_pair="slot")
    pq.write_table(pa.Table.from_pylist(documents), tmp_path / "rows.parquet")
    jsonl(tmp_path, *documents)
    for suffix in ("jsonl", "csv", "parquet"):
        rows = read(tmp_path / f"rows.{suffix}", task=TAGS, data={"columns": columns})
        assert rows[0].spans == (Span(0, 4, "verb"), Span(8, 13, "day"))
        assert rows[0].input == ("Come by today", "date")
        assert rows[1].spans == ()


def test_spans_as_a_struct_of_lists(tmp_path: Path) -> None:
    spans = {"start": [0, 5], "end": [4, 7], "label": ["verb", "word"]}
    [row] = read(jsonl(tmp_path, {"text": "Come by", "spans": spans}), task=TAGS)
    assert row.spans == (Span(0, 4, "verb"), Span(5, 7, "word"))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 9, "x")], "spans 0 to 9 (x) is outside the text, which has 8 characters"),
        ([(-1, 2, "x")], "spans -1 to 2 (x) is outside the text, which has 8 characters"),
        ([(3, 3, "x")], "spans 3 to 3 (x) is empty; end is exclusive"),
        ([(4, 2, "x")], "spans 4 to 2 (x) is reversed; start comes before end"),
        ([(2, 4, "x")], "spans 2 to 4 (x) marks ' b'; leave the outer white space out"),
        (
            [(0, 4, "x"), (3, 5, "y")],
            "spans 0 to 4 (x) overlaps 3 to 5 (y); keep one of them",
        ),
        (
            [(0, 8, "x"), (0, 1, "y"), (6, 7, "z")],
            "spans 0 to 1 (y) overlaps 0 to 8 (x); keep one of them\n"
            "spans 0 to 8 (x) overlaps 6 to 7 (z); keep one of them",
        ),
        ([(0, 1, " ")], "spans holds {'start': 0, 'end': 1, 'label': ' '}; a span is"),
        ([("0", 1, "x")], "spans holds {'start': '0', 'end': 1, 'label': 'x'}; a span is"),
        ([(True, 1, "x")], "spans holds {'start': True, 'end': 1, 'label': 'x'}; a span is"),
    ],
)
def test_bad_spans(tmp_path: Path, spans: list[tuple[Any, Any, str]], expected: str) -> None:
    given_spans = [{"start": a, "end": b, "label": label} for a, b, label in spans]
    said = said_of(tmp_path, {"text": "aa bb cc", "spans": given_spans}, TAGS)
    assert said.startswith(expected)


def test_spans_that_are_no_list(tmp_path: Path) -> None:
    said = said_of(tmp_path, {"text": "a", "spans": "0-1"}, TAGS)
    assert said == "spans is '0-1', a list is needed (in a csv cell as JSON)"
    assert said_of(tmp_path, {"text": "a", "spans": [3]}, TAGS).startswith("spans holds 3; a span")


def test_a_tagger_lacks_its_columns(tmp_path: Path) -> None:
    said = said_of(tmp_path, {"text": "a", "label": "x"}, TAGS)
    assert "column 'spans' is missing; the file has text, label" in said
    assert "(name yours in data.columns, or bring tokens and ner_tags)" in said


@pytest.mark.parametrize(
    ("negative", "expected"),
    [("c", ("c",)), (["c", "d"], ("c", "d")), ([], ()), (None, ()), ("", ()), ("[c", ("[c",))],
)
def test_pairs_and_triplets(tmp_path: Path, negative: Any, expected: tuple[str, ...]) -> None:
    document = {"text": "a", "positive": "b", "negative": negative}
    [row] = read(jsonl(tmp_path, document), task=PAIRS)
    assert (row.input, row.negatives) == (("a", "b"), expected)


def test_pairs_without_a_column_of_negatives(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,positive\na,b\n")
    assert read(tmp_path / "rows.csv", task=PAIRS)[0].negatives == ()


@pytest.mark.parametrize(
    ("negative", "expected"),
    [
        (["c", ""], "negative is empty"),
        ({"c": 1}, "negative is {'c': 1}, text is needed"),
        (["b"], "negative holds the row's own positive: b"),
    ],
)
def test_bad_negatives(tmp_path: Path, negative: Any, expected: str) -> None:
    document = {"text": "a", "positive": "b", "negative": negative}
    assert said_of(tmp_path, document, PAIRS).startswith(expected)


def test_labelled_rows_of_several_labels(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"id": "1", "text": "a", "label": ["y", "x"]})
    [row] = read_labelled(path, Columns(), SEVERAL)
    assert (row.id, row.text, row.label) == ("1", "a", "x|y")

"""Kinds of files: delimiters, quoting, encodings, and Hugging Face datasets on disk."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeloop.recipe import Data, TaskName
from edgeloop.rows import Row, Span
from finetune.data import Problems, Wanted, read_files
from finetune.readers.encoding import first_bad_byte, guess_encoding
from finetune.readers.features import class_names

PORTUGUESE = "Olá, não recebi a encomenda; já passaram três dias. Obrigado pela atenção"
GERMAN = "Meine Lieferung kam nicht an, bitte prüfen und zurückrufen. Größe und Maß stimmen"
RUSSIAN = "Здравствуйте, где мой заказ? Он должен был прийти вчера, я жду третий день"
JAPANESE = "注文した商品がまだ届いていません。確認してください。よろしくお願いします。"


def outcome(
    path: Path, task: TaskName = "text-classification", **data: Any
) -> tuple[list[Row], Problems]:
    problems = Problems()
    wanted = Wanted.of(Data(files=(path,), **data), task)
    return read_files([path], wanted, problems), problems


def read(path: Path, task: TaskName = "text-classification", **data: Any) -> list[Row]:
    rows, problems = outcome(path, task, **data)
    problems.raise_if_any()
    return rows


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def cells(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.text, row.label) for row in rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_the_header_shows_the_delimiter(tmp_path: Path, delimiter: str, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write(
        path, delimiter.join(["id", "text", "label"]) + f'\n1{delimiter}"a,b;c|d\te"{delimiter}x\n'
    )
    rows, problems = outcome(path)
    assert cells(rows) == [("a,b;c|d\te", "x")]
    assert not problems.warnings


def test_a_comma_in_the_header_wins_where_both_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "text,label,a;b\none;two,x,3\n")
    assert cells(read(path)) == [("one;two", "x")]


def test_where_no_delimiter_fits_the_one_that_shows_most_is_told(tmp_path: Path) -> None:
    _, problems = outcome(write(tmp_path / "rows.csv", "id;text;topic\n1;hello;a\n"))
    assert len(problems.shown) == 1
    assert "column 'label' is missing; the file has id, text, topic" in problems.shown[0]


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        ('text,label\n"she said ""no"", twice",x\n', 'she said "no", twice', ""),
        ('text,label\n5" pipe,x\n', '5" pipe', ""),
        ('text,label\n"she said \\"no\\", twice",x\n', 'she said "no", twice', "by a backslash"),
        ("text,label\n'it''s a, b',x\n", "it's a, b", "single quotes"),
        ("'text','label'\n'a, b','x'\n", "a, b", "single quotes"),
        ("text,label\n'tis plain,x\n", "'tis plain", ""),
        ('text\tlabel\n"an open quote\tx\n', '"an open quote', "no quotes"),
        ('text\tlabel\n"two" words\tx\n', '"two" words', "no quotes"),
        ("text,label\r\nwindows,x\r\n", "windows", ""),
        ("text,label\rold mac,x\r", "old mac", ""),
    ],
)
def test_odd_quoting_is_understood_and_told(
    tmp_path: Path, text: str, expected: str, said: str
) -> None:
    rows, problems = outcome(write(tmp_path / "rows.csv", text))
    assert cells(rows) == [(expected, "x")]
    assert problems.count == 0
    assert [said in warning for warning in problems.warnings] == [True] * bool(said)


CELL = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
).filter(lambda text: bool(text.strip()))


@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6), delimiter=st.sampled_from(",;\t|")
)
def test_what_a_csv_writer_quotes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str
) -> None:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [delimiter.join(map(quoted, row)) for row in [("text", "label"), *rows]]
    path = write(tmp_path_factory.mktemp("csv") / "rows.csv", "\n".join(lines) + "\n")
    assert cells(read(path)) == [(text, label.strip()) for text, label in rows]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]
)
def test_unicode_is_known_by_its_mark(tmp_path: Path, encoding: str, suffix: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    text = {"csv": f'text,label\n"{PORTUGUESE}",x\n'}.get(
        suffix, json.dumps({"text": PORTUGUESE, "label": "x"}, ensure_ascii=False)
    )
    rows, problems = outcome(write(tmp_path / f"rows.{suffix}", mark + text, encoding))
    assert cells(rows) == [(PORTUGUESE, "x")]
    assert not problems.warnings


def test_utf_16_without_its_mark_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "text,label\nhello,x\n", "utf-16-le")
    _, problems = outcome(path)
    assert "looks like UTF-16 without its byte order mark; set data.encoding" in problems.shown[0]
    assert cells(read(path, encoding="utf-16-le")) == [("hello", "x")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PORTUGUESE, "cp1252"),
        (GERMAN, "cp1252"),
        ("“Urgent” — I can’t find my order, it’s been three days and it cost £40…", "cp1252"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8_r"),
        (JAPANESE, "cp932"),
    ],
)
def test_other_encodings_are_guessed_and_told(tmp_path: Path, text: str, encoding: str) -> None:
    path = write(tmp_path / "rows.csv", f'text,label\nplain,y\n"{text}",x\n', encoding)
    rows, problems = outcome(path)
    assert cells(rows) == [("plain", "y"), (text, "x")]
    assert problems.warnings == [f"{path}: not UTF-8, read as {encoding}; set data.encoding"]


def test_the_encoding_of_the_recipe_needs_no_guess(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", "text,label\nné à,x\n", "cp850")
    rows, problems = outcome(path, encoding="cp850")
    assert cells(rows) == [("né à", "x")]
    assert not problems.warnings


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf8", "not utf8 as data.encoding says: byte 0xe9 at byte offset 12"),
        ("ascii", "not ascii as data.encoding says: byte 0xe9 at byte offset 12"),
        ("latin-77", "data.encoding is 'latin-77', which is no encoding; write one like utf-8"),
        ("base64", "data.encoding is 'base64', which is no encoding; write one like utf-8"),
    ],
)
def test_an_encoding_that_does_not_fit(tmp_path: Path, encoding: str, expected: str) -> None:
    path = write(tmp_path / "rows.csv", "text,label\nné à,x\n", "cp1252")
    _, problems = outcome(path, encoding=encoding)
    assert problems.shown[0].startswith(f"{path}: {expected}")


@pytest.mark.parametrize("prefix_bytes", [0, 3, (1 << 20) - 1, (1 << 20) + 5])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_not_utf8_tells_the_byte_offset(tmp_path: Path, prefix_bytes: int, mark: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(mark + b"x" * prefix_bytes + b"\xc3\x28 and more")
    _, problems = outcome(path)
    offset = prefix_bytes + len(mark)
    assert problems.shown == [
        f"{path}: not UTF-8: byte 0xc3 at byte offset {offset}; save the file as UTF-8, or name "
        "its encoding in data.encoding"
    ]


def test_a_file_that_ends_inside_a_character_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"text,label\na,b\xe2\x82")
    assert first_bad_byte(path, "utf-8-sig") == (14, 0xE2)


def test_damaged_utf8_is_never_taken_for_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    damaged = f"text,label\n{GERMAN.replace(',', '')},x\n".encode().replace("ß".encode(), b"\xdf")
    path.write_bytes(damaged)
    rows, problems = outcome(path)
    assert not rows
    assert f"byte 0xdf at byte offset {damaged.index(0xDF)}" in problems.shown[0]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Siparişim nerede? Üç gündür bekliyorum, lütfen yardımcı olun.", "cp1254"),
        ("Dzień dobry, gdzie jest moja paczka? Złożyłem zamówienie, łącznie pięć", "iso8859_2"),
        (JAPANESE, "euc_jp"),
        ("é", "cp1252"),
    ],
)
def test_a_guess_that_is_not_good_enough_is_none(text: str, encoding: str) -> None:
    assert guess_encoding(text.encode(encoding)) is None


@given(st.binary(min_size=40, max_size=400))
def test_a_guess_decodes_what_it_was_made_from(data: bytes) -> None:
    guess = guess_encoding(data)
    if guess is not None:
        data.decode(guess)


def dataset_folder(
    folder: Path, rows: list[dict[str, Any]], features: Any, shards: int = 2
) -> Path:
    """What datasets.save_to_disk writes: Arrow streams, state.json, dataset_info.json."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    schema = pa.Table.from_pylist(rows).schema
    for i, name in enumerate(names):
        part = pa.Table.from_pylist(rows[i::shards], schema=schema)
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, schema) as out:
            out.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_format_type": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


TAG_NAMES = ["O", "B-LOC", "I-LOC"]
CLASS = {"names": ["order", "fault"], "_type": "ClassLabel"}
TEXT_FEATURE = {"dtype": "string", "_type": "Value"}


def test_a_dataset_on_disk_gives_classes_their_names(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": i % 2, "other": i} for i in range(5)]
    path = dataset_folder(tmp_path / "saved", rows, {"text": TEXT_FEATURE, "label": CLASS})
    read_rows = read(path)
    assert sorted(cells(read_rows)) == [(f"text {i}", ("order", "fault")[i % 2]) for i in range(5)]
    assert [row.where for row in read_rows] == [f"{path}:{i}" for i in range(1, 6)]


@pytest.mark.parametrize("kind", ["List", "Sequence", "LargeList", "bare list"])
def test_tags_of_a_dataset_on_disk_get_their_names(tmp_path: Path, kind: str) -> None:
    tag = {"names": TAG_NAMES, "_type": "ClassLabel"}
    feature: Any = [tag] if kind == "bare list" else {"feature": tag, "_type": kind}
    rows = [{"tokens": ["In", "New", "York"], "ner_tags": [0, 1, 2]}]
    path = dataset_folder(tmp_path / "saved", rows, {"ner_tags": feature}, shards=1)
    [row] = read(path, "token-classification")
    assert (row.text, row.spans) == ("In New York", (Span(3, 11, "LOC"),))


def test_numbers_without_names_are_a_problem(tmp_path: Path) -> None:
    rows = [{"tokens": ["a"], "ner_tags": [1]}]
    _, problems = outcome(dataset_folder(tmp_path / "d", rows, {}, 1), "token-classification")
    assert "ner_tags holds 1; numbers say no names; write tags" in problems.shown[0]


def test_a_class_that_has_no_name(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": -1}]
    path = dataset_folder(tmp_path / "d", rows, {"label": CLASS}, 1)
    found, problems = outcome(path)
    assert cells(found) == [("a", "order")]
    assert problems.shown == [
        f"{path}:2: label is -1, the dataset names classes 0 to 1; give the row one of them or "
        "remove it"
    ]


def test_a_folder_of_several_splits_names_them(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 0}]
    for name in ("test", "train"):
        dataset_folder(tmp_path / "all" / name, rows, {"label": CLASS}, 1)
    (tmp_path / "all" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    _, problems = outcome(tmp_path / "all")
    assert problems.shown == [
        f"{tmp_path}/all: this folder holds several splits (test, train); name one, such as "
        f"{tmp_path}/all/train"
    ]
    assert cells(read(tmp_path / "all" / "train")) == [("a", "order")]


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    _, problems = outcome(tmp_path)
    assert problems.shown == [
        f"{tmp_path}: a folder without state.json; name a file, or a folder that "
        "datasets.save_to_disk wrote"
    ]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("state.json", b"{", "state.json or dataset_info.json cannot be read"),
        ("state.json", b"[]", "state.json or dataset_info.json cannot be read"),
        ("data-00000-of-00001.arrow", b"ARROW?", "not an Arrow stream that can be read"),
        ("data-00000-of-00001.arrow", None, "not an Arrow stream that can be read"),
    ],
)
def test_a_damaged_dataset_folder(
    tmp_path: Path, name: str, data: bytes | None, expected: str
) -> None:
    path = dataset_folder(tmp_path / "d", [{"text": "a", "label": 0}], {"label": CLASS}, 1)
    (path / name).unlink()
    if data is not None:
        (path / name).write_bytes(data)
    _, problems = outcome(path)
    assert expected in problems.shown[0]


def test_a_dataset_folder_lacks_a_column(tmp_path: Path) -> None:
    path = dataset_folder(tmp_path / "d", [{"body": "a", "label": 0}], {}, 2)
    _, problems = outcome(path)
    assert problems.shown == [
        f"{path}: column 'text' is missing; the file has body, label (name yours in data.columns)"
    ]


def test_a_parquet_file_of_a_dataset_gives_classes_their_names(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"text": "a", "label": 1}])
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": CLASS}}})}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "rows.parquet")
    assert cells(read(tmp_path / "rows.parquet")) == [("a", "fault")]


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["_type", "names", "feature", "x"]), inner, max_size=3)
    ),
)


@given(features=JSON)
def test_features_of_any_shape_are_no_error(features: Any) -> None:
    assert all(isinstance(names, tuple) for names in class_names(features).values())

"""Answers of a person into the ledger."""

from pathlib import Path

import pytest

from edgeloop.errors import DatasetError, RecipeError
from edgeloop.labelling import store_sample
from edgeloop.ledger import Ledger, open_ledger
from edgeloop.recipe import Columns, Data, Recipe


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "home")


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(name="m", base="b", data=Data(files=(Path("rows.csv"),)))


def answers(folder: Path, *rows: str) -> Path:
    path = folder / "answers.csv"
    path.write_text("\n".join(("id,text,label", *rows)) + "\n")
    return path


def test_rows_that_are_known_are_skipped_and_counted(
    ledger: Ledger, recipe: Recipe, tmp_path: Path
) -> None:
    store_sample(ledger, recipe, answers(tmp_path, "1,a,x", "2,b,y"), 10, 0)
    stored = store_sample(ledger, recipe, answers(tmp_path, "1,a,x", "2,b,y", "3,c,x"), 10, 0)
    assert (stored["added"], stored["skipped"], stored["known"]) == (1, 2, 3)
    assert stored["ids"] == ["3"]
    with pytest.raises(DatasetError, match="all 3 rows are labelled already"):
        store_sample(ledger, recipe, answers(tmp_path, "1,a,x", "2,b,y", "3,c,x"), 10, 0)


def test_an_id_that_comes_twice_is_named(ledger: Ledger, recipe: Recipe, tmp_path: Path) -> None:
    path = answers(tmp_path, "1,a,x", "7,b,y", "7,c,x")
    with pytest.raises(DatasetError, match=r"answers\.csv:4: id '7' is taken by .*answers\.csv:3"):
        store_sample(ledger, recipe, path, 10, 0)
    assert ledger.labels("m") == ([], [])


def test_an_id_of_another_text_is_named(ledger: Ledger, recipe: Recipe, tmp_path: Path) -> None:
    store_sample(ledger, recipe, answers(tmp_path, "1,a,x"), 10, 0)
    with pytest.raises(DatasetError, match=r"answers\.csv:2: the ledger knows id '1' with another"):
        store_sample(ledger, recipe, answers(tmp_path, "1,changed,x", "2,b,y"), 10, 0)
    assert [row.id for row in ledger.labels("m")[0]] == ["1"]


def test_several_labels_are_stored_sorted_and_divided_by_bars(
    ledger: Ledger, recipe: Recipe, tmp_path: Path
) -> None:
    data = recipe.data.model_copy(update={"label_separator": ";"})
    several = recipe.model_copy(update={"task": "multi-label-classification", "data": data})
    store_sample(ledger, several, answers(tmp_path, "1,a,y; x", "2,b,"), 10, 0)
    assert sorted(row.label for row in ledger.labels("m")[0]) == ["", "x|y"]


@pytest.mark.parametrize("task", ["token-classification", "text-embedding"])
def test_tasks_without_single_labels_are_refused(
    ledger: Ledger, recipe: Recipe, tmp_path: Path, task: str
) -> None:
    other = recipe.model_copy(update={"task": task})
    with pytest.raises(RecipeError, match=f"task {task}: labels .* are for classification"):
        store_sample(ledger, other, answers(tmp_path, "1,a,x"), 10, 0)
    assert ledger.labels("m") == ([], [])


def test_pairs_are_refused(ledger: Ledger, recipe: Recipe, tmp_path: Path) -> None:
    data = recipe.data.model_copy(update={"columns": Columns(text_pair="other")})
    with pytest.raises(RecipeError, match="text_pair is 'other': the ledger keeps single texts"):
        store_sample(
            ledger, recipe.model_copy(update={"data": data}), answers(tmp_path, "1,a,x"), 10, 0
        )


def test_a_guessed_encoding_is_logged(
    ledger: Ledger, recipe: Recipe, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "Meine Lieferung kam nicht an; bitte prüfen und zurückrufen. Größe und Maß stimmen"
    path = answers(tmp_path, f"1,{text},x")
    path.write_bytes(path.read_text().encode("cp1252"))
    store_sample(ledger, recipe, path, 10, 0)
    assert [row.text for row in ledger.labels("m")[0]] == [text]
    assert f"{path}: not UTF-8, read as cp1252" in caplog.text

"""The reference stage on a tiny real model."""

from dataclasses import replace
from pathlib import Path

import pytest

from edgeloop.bundle import MODEL, REFERENCE, TOKENIZER
from edgeloop.errors import DatasetError, MonitorError
from edgeloop.observer import observed
from edgeloop.recipe import TaskName
from edgeloop.records import Reference
from edgeloop.rows import read_rows, write_rows
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from monitor import stage
from monitor.observer import DriftObserver
from monitor.reference import SETTINGS, load_reference
from tests import monitored, tiny

BUSY = {word for words in tiny.WORDS.values() for word in words}


def test_the_stage_writes_an_armed_reference_without_texts(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path)
    record = monitored.fit_run(run)
    assert record.armed, record.reason
    assert record.rows == 560
    assert record.verified_run_length >= record.target_run_length == monitored.TARGET
    assert [entry.path for entry in record.files] == [REFERENCE]
    data = load_reference(run.folder("reference") / REFERENCE)
    assert data.fitted.threshold == record.threshold
    assert sum(data.class_counts) == 560
    assert data.words["invoice"] > 1


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (monitored.make_run(tmp_path / name, rows=60) for name in "ab")
    assert monitored.fit_run(first, 60).files == monitored.fit_run(second, 60).files


def test_a_complete_stage_is_skipped_and_another_target_is_not(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=60)
    before = monitored.fit_run(run, 60)
    path = run.folder("reference") / REFERENCE
    written = path.stat().st_mtime_ns
    assert monitored.fit_run(run, 60) == before
    assert path.stat().st_mtime_ns == written
    said: list[str] = []
    record = stage.run(
        monitored.recipe(500), monitored.dataset(60), monitored.certificate(), run, said.append
    )
    assert record.target_run_length == 500
    assert "not armed" in said[-1]
    assert "add 440 rows" in said[-1]


def test_advice_is_given_where_the_recipe_asks_for_it(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=60)
    plain, asked = monitored.fit_run(run, 60), monitored.recipe()
    monitor = asked.monitor.model_copy(update={"advisory": True})
    recipe = asked.model_copy(update={"monitor": monitor})
    said: list[str] = []
    advised = stage.run(recipe, monitored.dataset(60), monitored.certificate(), run, said.append)
    assert (plain.advisory, advised.advisory, advised.armed) == (False, True, False)
    assert "as advice, without a promise" in said[-1]


def test_without_a_chosen_candidate_there_is_nothing_to_measure_with(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=10)
    with pytest.raises(MonitorError, match="no candidate keeps to the budget"):
        stage.run(
            monitored.recipe(), monitored.dataset(10), monitored.certificate(None), run, print
        )
    assert not run.folder("reference").exists()


@pytest.mark.parametrize("content", ["", "{}\n", "not json\n"])
def test_rows_that_do_not_read_are_an_error(tmp_path: Path, content: str) -> None:
    run = monitored.make_run(tmp_path, rows=10)
    (run.folder("dataset") / monitored.ROWS).write_text(content)
    with pytest.raises((MonitorError, DatasetError), match="rows"):
        monitored.fit_run(run, 10)


def test_a_line_separator_inside_a_text_is_no_new_row(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=10)
    path = run.folder("dataset") / monitored.ROWS
    line = '{"id": "x", "text": "my invoice\u2028is late", "label": "billing"}\n'
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    assert monitored.fit_run(run, 11).rows == 11


def test_the_record_takes_every_figure_of_the_fit() -> None:
    assert set(SETTINGS) <= set(Reference.model_fields)


# -- the other tasks -------------------------------------------------------------------------------


def test_entities_and_several_labels_have_a_class_for_none(tmp_path: Path) -> None:
    tasks: tuple[TaskName, ...] = ("token-classification", "multi-label-classification")
    for task in tasks:
        run = monitored.make_run(tmp_path / task, rows=60, task=task)
        assert monitored.fit_run(run, 60, task).rows == 60
        data = load_reference(run.folder("reference") / REFERENCE)
        assert set(data.labels) == {"O", *tiny.LABELS}
        assert sum(data.class_counts) == 60


def test_the_words_of_both_texts_of_a_pair_count(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=60, text_pair=True)
    rows = read_rows(run.folder("dataset"), "reference")
    monitored.fit_run(run, 60)
    data = load_reference(run.folder("reference") / REFERENCE)
    both = [row for row in rows if "invoice" in f"{row.text} {row.text_pair}".split()]
    assert data.words["invoice"] == len(both)
    assert len(both) > sum("invoice" in row.text.split() for row in rows)


def test_vectors_have_one_class_and_no_mix_of_them_is_watched(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, task="text-embedding")
    record = monitored.fit_run(run, task="text-embedding")
    assert record.armed, record.reason
    assert "direction and novelty alone are watched" in record.reason
    assert record.rows == 560, "the anchors"
    data = load_reference(run.folder("reference") / REFERENCE)
    assert (data.labels, data.class_counts) == (("embedding",), (560,))


def test_vectors_of_other_texts_raise_the_alarm(tmp_path: Path) -> None:
    bundle = monitored.make_bundle(tmp_path, task="text-embedding")
    model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), 64)

    def alarmed(texts: list[str]) -> bool:
        observer = DriftObserver(bundle)
        for text in texts:
            observer.observe(observed(text, model.answer(text), TASKS["text-embedding"], ()))
        return observer.status().alarmed

    assert not alarmed([row.text for row in tiny.rows("text-embedding", 150, seed=77)])
    assert alarmed(["gas bottle swap my cylinder"] * 80)


def test_vectors_whose_neighbours_hang_together_do_not_arm(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, task="text-embedding")
    path = run.folder("dataset") / monitored.ROWS
    rows = read_rows(run.folder("dataset"), "reference")
    write_rows(path, sorted(rows, key=lambda row: min(set(row.text.split()) & BUSY, default="")))
    record = monitored.fit_run(run, task="text-embedding")
    assert not record.armed
    assert "neighbouring reference rows are alike" in record.reason


# -- accuracy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task", ["text-classification", "multi-label-classification", "token-classification"]
)
def test_the_reference_says_what_accuracy_is_estimated_from(task: TaskName, tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=60, task=task)
    path = run.folder("dataset") / monitored.ROWS
    rows = read_rows(run.folder("dataset"), "reference")
    wrong = replace(rows[0], labels=("delivery", "repair"), spans=())
    write_rows(path, [*([wrong] * 6), *rows[6:]])
    monitored.fit_run(run, 60, task)
    fit = load_reference(run.folder("reference") / REFERENCE).accuracy
    assert fit is not None
    assert (fit.rows, fit.floor) == (60, 0.85)
    assert fit.accuracy == pytest.approx(0.9, abs=0.02)


def test_vectors_have_no_accuracy(tmp_path: Path) -> None:
    run = monitored.make_run(tmp_path, rows=60, task="text-embedding")
    monitored.fit_run(run, 60, "text-embedding")
    assert load_reference(run.folder("reference") / REFERENCE).accuracy is None


def test_the_recipes_floor_reaches_the_bundle_and_another_one_is_another_stage(
    tmp_path: Path,
) -> None:
    run = monitored.make_run(tmp_path, rows=60)
    monitored.fit_run(run, 60)
    recipe = monitored.recipe()
    monitor = recipe.monitor.model_copy(update={"accuracy_floor": 0.7})
    lower = recipe.model_copy(update={"monitor": monitor})
    stage.run(lower, monitored.dataset(60), monitored.certificate(), run, lambda _: None)
    fit = load_reference(run.folder("reference") / REFERENCE).accuracy
    assert fit is not None
    assert fit.floor == 0.7

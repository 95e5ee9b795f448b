"""The reference stage on a tiny real model."""

from dataclasses import fields
from pathlib import Path

import pytest

from edgeloop.bundle import REFERENCE
from edgeloop.errors import DatasetError, MonitorError
from edgeloop.records import Reference
from monitor import stage
from monitor.fit import Fitted
from monitor.reference import load_reference
from tests import monitored


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
    figures = {field.name for field in fields(Fitted)} - {"centroids", "tails"}
    assert figures <= set(Reference.model_fields)

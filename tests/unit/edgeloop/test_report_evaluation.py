"""What the report and the command line say of an evaluation and of baselines."""

import re
import warnings
from pathlib import Path

import pytest

from edgeloop import plots, report_evaluation, show, show_run
from edgeloop.ledger import open_ledger
from edgeloop.records import Interval
from edgeloop.records_evaluation import Baseline, Baselines, Evaluation, ReliabilityPoint, Slice
from edgeloop.report import Inputs, write_report
from edgeloop.rundir import RECORD_NAME
from edgeloop.tasks import TASKS
from finetune import evaluate
from finetune.baselines import BASELINES
from finetune.baselines import stage as baselines
from tests.evaluated import Oracle, encode, epochs, make_adapter, make_rows, make_run, recipe_of

ROWS = {"train": 60, "validation": 30, "test": 90}


def evaluated(root: Path, task: str) -> tuple[Evaluation, Baselines]:
    folder, dataset, adapter, merged = make_run(root, task, ROWS)
    model = Oracle(task, make_rows(task, ROWS["test"], seed=2), error_ratio=0.3)
    recipe = recipe_of(task)
    models = baselines.Models(encode, model, 1000, 2000)
    return (
        evaluate.run(recipe, dataset, merged, folder, print, lambda *a: model(a[3])),
        baselines.run(recipe, dataset, adapter, merged, folder, lambda: models, print),
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_its_sections(task: str, tmp_path: Path) -> None:
    evaluation, worth = evaluated(tmp_path / "run", task)
    page = report_evaluation.evaluation(tmp_path / "run")
    figure = evaluation.figures[evaluation.headline]
    assert f"{figure.low:.3f} to {figure.high:.3f}" in page
    assert page.index(report_evaluation.FIGURE_NAMES[evaluation.headline]) < page.index("<svg")
    assert ("Per class" in page) == (task != "text-embedding")
    assert ("What was taken for what" in page) == (task == "text-classification")
    assert "worst errors, with texts: for this machine only" in page
    table = report_evaluation.baselines(tmp_path / "run")
    for name in [*BASELINES[task], "fine-tuned"]:
        assert f"{name} (ship)" in table if name == worth.ship else f">{name}<" in table
    assert worth.reason[1:] in table.replace("&#x27;", "'")
    assert set(report_evaluation.FIGURE_NAMES) >= set(evaluation.figures)


def test_a_run_that_was_not_evaluated_has_no_section(tmp_path: Path) -> None:
    assert report_evaluation.evaluation(tmp_path) == ""
    assert report_evaluation.baselines(tmp_path) == ""


def test_the_texts_may_be_gone(tmp_path: Path) -> None:
    evaluated(tmp_path / "run", "text-classification")
    (tmp_path / "run" / "evaluation" / "errors.jsonl").unlink()
    page = report_evaluation.evaluation(tmp_path / "run")
    assert "On the test rows" in page
    assert "worst errors" not in page


def test_texts_of_errors_cannot_inject_markup(tmp_path: Path) -> None:
    evaluated(tmp_path / "run", "text-classification")
    line = (
        '{"id": "<b>", "text": "<script>alert(1)</script>", "text_pair": "<i>", "truth": "a", '
        '"answer": "", "score": 0.5}\n'
    )
    (tmp_path / "run" / "evaluation" / "errors.jsonl").write_text(line)
    page = report_evaluation.evaluation(tmp_path / "run")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | &lt;i&gt;" in page
    assert "(none)" in page


def test_the_sections_are_in_the_report(tmp_path: Path) -> None:
    root = tmp_path / "run"
    evaluated(root, "text-classification")
    _, dataset, _, _ = make_run(tmp_path / "other", "text-classification", ROWS)
    curve = epochs((0.9, 0.8, 0.7), (0.5, 0.6, 0.8), (0.1, 0.9, 0.78))
    (root / "adapter").mkdir()
    make_adapter(dataset).model_copy(update={"epochs": curve}).write(root / "adapter" / RECORD_NAME)
    ledger = open_ledger(tmp_path / "home")
    ledger.start_run("r1", "tiny", "edgeloop run", root, "0" * 64)
    page = write_report(ledger, "tiny", Inputs([], {}), tmp_path / "report.html").read_text()
    order = ["Overfitting: after epoch 2", "On the test rows", "Is fine-tuning worth it here?"]
    assert sorted(order, key=page.index) == order


@pytest.mark.parametrize("task", TASKS)
def test_the_command_line_shows_both(task: str, tmp_path: Path) -> None:
    evaluation, worth = evaluated(tmp_path / "run", task)
    document = {
        "folder": "f",
        "evaluation": evaluation.model_dump(mode="json"),
        "baselines": worth.model_dump(mode="json"),
    }
    lines = show.run(document).splitlines()
    figure = evaluation.figures[evaluation.headline]
    assert lines[1].startswith(f"tested     {evaluation.headline} {figure.value:.3f} (")
    shipped = [line for line in lines if line.endswith("SHIP")]
    assert [line.split()[0] for line in shipped] == [worth.ship]
    assert f"worth it   {worth.reason}" in lines


def test_a_slice_that_is_weaker_is_named_on_the_command_line(tmp_path: Path) -> None:
    evaluation, _ = evaluated(tmp_path / "run", "text-classification")
    document = evaluation.model_dump(mode="json") | {"worst_slice": "channel: mail"}
    assert "weakest    channel: mail, below the whole" in show_run.evaluation(document)


# -- plots -------------------------------------------------------------------------------------

RANGE = Interval(value=0.8, low=0.7, high=0.85)


@pytest.mark.parametrize("value", ["$x$ & <b>", "$\\frac$", "日本", "a_b^c", ""])
def test_any_slice_name_can_be_drawn(value: str) -> None:
    found = Slice(column="shop", value=value, rows=40, right=RANGE, too_few=False, differs=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = plots.slices([found], 0.9)
    assert "<b>" not in svg
    assert "all rows: 0.900" in svg


def test_no_slice_has_no_plot() -> None:
    assert plots.slices([], 0.9) == ""


def result(name: str, figure: Interval = RANGE) -> Baseline:
    return Baseline(
        name=name,
        figure=figure,
        loss=None,
        drop_upper_bound_ratio=0.0,
        chosen_settings={},
        train_seconds=1.0,
        latency_p50_ms=1.0,
        size_bytes=1,
    )


def test_the_one_to_ship_is_set_apart() -> None:
    results = [result("cheap"), result("dear")]
    svg = plots.baselines(results, "dear", "accuracy")
    assert plots.ACCENT in svg
    assert plots.ACCENT not in plots.baselines(results, "none", "accuracy")
    assert re.search(r">cheap<.*>dear<", svg, re.DOTALL)


def test_what_is_far_below_the_best_is_named_and_not_drawn() -> None:
    far = Interval(value=0.013, low=0.01, high=0.02)
    svg = plots.baselines([result("majority", far), result("good")], "good", "accuracy")
    assert ">majority<" not in svg
    assert "accuracy (not drawn: majority 0.013)" in svg


def test_a_reliability_plot_of_one_bin_is_drawn() -> None:
    svg = plots.reliability([ReliabilityPoint(confidence=1.0, accuracy=1.0, decisions=3)])
    assert 'aria-label="Reliability"' in svg

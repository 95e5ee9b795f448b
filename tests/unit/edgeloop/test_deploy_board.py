"""The committed boards are what their script makes, and Grafana can lay them out.

That every expression in them names metrics that exist and returns data is tested against a real
Prometheus in tests/integration/test_deploy_stack.py.
"""

import re
from itertools import combinations
from typing import Any

import pytest

from deploy.grafana.board import BOARDS, FOLDER, render
from deploy.grafana.panels import COLUMNS
from tests.deployed import board_expressions, boards, recorded, rules

UNITS = {"short", "s", "d", "bytes", "reqps", "percentunit"}  # Grafana's ids
KINDS = {"row", "timeseries", "stat", "table", "status-history", "state-timeline"}
NAMES = sorted(BOARDS)


def panels(name: str) -> list[dict[str, Any]]:
    """The panels of a board, headings left out."""
    return [panel for panel in boards()[name]["panels"] if panel["type"] != "row"]


def targets(name: str) -> list[dict[str, Any]]:
    return [target for panel in panels(name) for target in panel["targets"]]


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_board_is_what_the_script_makes(name: str) -> None:
    committed = (FOLDER / name).read_text(encoding="utf-8")
    assert committed == render(BOARDS[name]), "run: python -m deploy.grafana.board"


def test_there_is_no_other_board_in_the_folder() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


def test_boards_have_names_of_their_own_and_lead_to_one_another() -> None:
    for key in ("uid", "title"):
        assert len({board[key] for board in boards().values()}) == len(NAMES)
    for board in boards().values():
        (link,) = board["links"]
        assert set(link["tags"]) <= set(board["tags"])


@pytest.mark.parametrize("name", NAMES)
def test_panels_have_ids_and_titles_and_say_what_they_show(name: str) -> None:
    found = boards()[name]["panels"]
    assert len({panel["id"] for panel in found}) == len(found)
    assert {panel["type"] for panel in found} <= KINDS
    for panel in panels(name):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        values = [step["value"] for step in steps]
        assert values[0] is None
        assert values[1:] == sorted(values[1:])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_the_boards_variable(name: str) -> None:
    board = boards()[name]
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    asked = [*panels(name), *targets(name), *board["annotations"]["list"], variables["model"]]
    for one in asked:
        assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_expressions_use_only_variables_that_grafana_or_the_board_fills_in() -> None:
    for expr in board_expressions():
        assert set(re.findall(r"\$\w+", expr)) <= {"$model", "$__rate_interval"}, expr


@pytest.mark.parametrize("name", NAMES)
def test_legends_use_labels_that_their_expression_keeps(name: str) -> None:
    alerts_and_records = {"class", "feature", "model", "instance"}
    for target in targets(name):
        for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            kept = re.search(rf"(by|group_left) \([^)]*\b{label}\b", target["expr"])
            record = any(record in target["expr"] for record in recorded())
            assert kept or (record and label in alerts_and_records), target


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_inside_the_grid_and_do_not_overlap(name: str) -> None:
    places = [panel["gridPos"] for panel in boards()[name]["panels"]]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)


def _shown(name: str) -> set[str]:
    expressions = [target["expr"] for target in targets(name)]
    return {metric for expr in expressions for metric in re.findall(r"\b[a-z_:0-9]+\b", expr)}


def test_the_boards_show_traffic_drift_trials_and_the_loop_at_work() -> None:
    assert _shown("fleet.json") >= {
        "edgeloop_requests_total",
        "edgeloop_request_duration_seconds_bucket",
        "edgeloop_model_info",
        "edgeloop_drift_evidence_ratio",
        "edgeloop_swaps_total",
    }
    assert _shown("model.json") >= {
        "edgeloop_drift_state",
        "edgeloop_estimated_accuracy_ratio",
        "edgeloop_labelled_accuracy_ratio",
        "edgeloop_golden_flip_ratio",
        "edgeloop_trial_evidence",
        "model_feature:edgeloop_psi:threshold_ratio6h",
        "model_class:edgeloop_predictions:ratio1h",
    }
    assert _shown("retraining.json") >= {
        "edgeloop_retrain_runs_total",
        "edgeloop_retrain_decisions_total",
        "edgeloop_retrain_labels_total",
        "edgeloop_promotions_total",
        "edgeloop_gate_drop_ratio",
    }


def test_every_recording_is_read_by_a_board_an_alert_or_another_recording() -> None:
    read = [
        *board_expressions(),
        *(r["expr"] for file in ("rules.yml", "recording.yml") for r in rules(file)),
    ]
    for record in recorded():
        assert any(record in expr for expr in read), record

"""The committed board is what its script makes, and every metric in it and in the rules exists."""

import re
from itertools import combinations

import pytest
from prometheus_client import CollectorRegistry

from deploy.grafana.board import BOARD, COLUMNS, board, render
from monitor.metrics import DriftCollector
from monitor.observer import DriftObserver
from serve.metrics import ServeMetrics
from tests import monitored
from tests.deployed import expressions

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
# Prometheus adds it to every series.
TARGET_LABELS = {"instance"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Name -> labels of all series that a server with its monitor shows at /metrics."""
    bundle = monitored.make_bundle(tmp_path_factory.mktemp("board"), rows=30)
    observer = DriftObserver(bundle)
    registry = CollectorRegistry()
    ServeMetrics(registry, "tiny").show_bundle(bundle)
    registry.register(DriftCollector(lambda: observer))
    labels: dict[str, set[str]] = {}
    for family in registry.collect():
        for suffix in SUFFIXES[family.type]:
            same = [s for s in family.samples if s.name == family.name + suffix]
            assert same, f"{family.name} does not exist from the start"
            labels[family.name + suffix] = set(same[0].labels)
    return labels


def _metrics(expression: str) -> set[str]:
    return set(re.findall(r"\bedgeloop_\w+", expression))


def test_the_committed_board_is_what_the_script_makes() -> None:
    assert BOARD.read_text(encoding="utf-8") == render(), "run: python deploy/grafana/board.py"


def test_every_metric_in_the_board_and_in_the_rules_exists(exported: dict[str, set[str]]) -> None:
    used = {name for expression in expressions() for name in _metrics(expression)}
    assert used
    assert used - exported.keys() == set()


def test_expressions_select_and_group_by_labels_that_their_metrics_have(
    exported: dict[str, set[str]],
) -> None:
    for expression in expressions():
        groups = re.findall(r"(?:by|on|ignoring) \(([^)]*)\)", expression)
        selectors = re.findall(r"(\w+)!?=~?\"", expression)
        labels = {label.strip() for group in groups for label in group.split(",")} | {*selectors}
        for name in _metrics(expression):
            assert labels <= exported[name] | TARGET_LABELS, expression


def test_the_board_shows_traffic_drift_and_the_loop_at_work() -> None:
    shown = {name for expression in expressions() for name in _metrics(expression)}
    assert shown >= {
        "edgeloop_requests_total",
        "edgeloop_request_duration_seconds_bucket",
        "edgeloop_predictions_total",
        "edgeloop_rejected_total",
        "edgeloop_model_info",
        "edgeloop_drift_evidence_ratio",
        "edgeloop_drift_alarms_total",
        "edgeloop_drift_observations_total",
        "edgeloop_labels_total",
        "edgeloop_swaps_total",
    }


def test_legends_use_labels_that_their_expression_keeps() -> None:
    for panel in board()["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target


def test_panels_lie_inside_the_grid_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in board()["panels"]]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart_x or apart_y, (one, other)

"""Makes the Grafana board: `python deploy/grafana/board.py` rewrites dashboards/edgeloop.json.

The JSON is committed, so that Grafana's provisioning needs no Python; a test compares the two.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOARD = Path(__file__).parent / "dashboards" / "edgeloop.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # Grafana's grid
HEIGHT = 8
MODEL = 'model=~"$model"'
# Probes and scrapes come every few seconds; beside them real traffic would not be seen.
PREDICT = f'{MODEL}, route="/predict"'
WORK = f'{MODEL}, route!~"/health|/metrics"'
RED_LINE = {"color": "red", "value": 1}
GREEN_BASE = {"color": "green", "value": None}


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its lines."""

    expr: str
    legend: str
    # A table shows what is true now; a line shows how it came about.
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: `width` in the grid's 24 columns, `unit` in Grafana's names."""

    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    kind: str = "timeseries"
    unit: str = "short"
    stacked: bool = False
    threshold: bool = False


def _latency(quantile: float) -> Query:
    rate = f"rate(edgeloop_request_duration_seconds_bucket{{{PREDICT}}}[$__rate_interval])"
    expr = f"histogram_quantile({quantile}, sum by (le, model) ({rate}))"
    return Query(expr, f"p{quantile * 100:g} {{{{model}}}}")


def _rate(metric: str, by: str, legend: str) -> Query:
    return Query(f"sum by ({by}) (rate({metric}{{{MODEL}}}[$__rate_interval]))", legend)


def _count(metric: str, by: str, legend: str) -> Query:
    return Query(f"sum by ({by}) (increase({metric}{{{MODEL}}}[$__rate_interval]))", legend)


CLASS_SHARE = (
    f"sum by (model, class) (rate(edgeloop_predictions_total{{{MODEL}}}[$__rate_interval]))"
    " / ignoring (class) group_left "
    f"sum by (model) (rate(edgeloop_predictions_total{{{MODEL}}}[$__rate_interval]))"
)

TRAFFIC = (
    Panel(
        "Requests per second by code",
        "Answers by HTTP code without probes and scrapes. 4xx is a client's mistake, 5xx ours.",
        (
            Query(
                f"sum by (model, code) (rate(edgeloop_requests_total{{{WORK}}}[$__rate_interval]))"
                # Every possible code is a series from the start; those that never came say nothing.
                " > 0",
                "{{model}} {{code}}",
            ),
        ),
        width=8,
        unit="reqps",
        stacked=True,
    ),
    Panel(
        "Latency of /predict",
        "From the head of the request to the last byte of the answer.",
        (_latency(0.5), _latency(0.95), _latency(0.99)),
        width=8,
        unit="s",
    ),
    Panel(
        "Rejected, and in flight",
        "Requests turned away per second by reason, and requests being answered right now.",
        (
            _rate("edgeloop_rejected_total", "model, reason", "rejected: {{reason}}"),
            Query(f"sum by (model) (edgeloop_inflight_requests{{{MODEL}}})", "in flight {{model}}"),
        ),
        width=8,
    ),
)

DRIFT = (
    Panel(
        "Drift evidence against its threshold",
        "1 is the alarm. How rare an alarm without drift is: the panel of run lengths.",
        (
            Query(
                f"max by (model, detector) (edgeloop_drift_evidence_ratio{{{MODEL}}})",
                "{{model}} {{detector}}",
            ),
        ),
        width=12,
        threshold=True,
    ),
    Panel(
        "Predicted classes",
        "The share of each class in what the model answers.",
        (Query(CLASS_SHARE, "{{model}} {{class}}"),),
        width=12,
        unit="percentunit",
        stacked=True,
    ),
    Panel(
        "What the monitor saw",
        "Texts per second that it took, passed over, lost because it was behind, and failed on.",
        (
            _rate("edgeloop_drift_observations_total", "model", "observed {{model}}"),
            _rate("edgeloop_drift_skipped_total", "model", "skipped {{model}}"),
            _rate("edgeloop_monitor_dropped_total", "model", "dropped {{model}}"),
            _rate("edgeloop_monitor_errors_total", "model", "errors {{model}}"),
        ),
        width=8,
    ),
    Panel(
        "Alarms, labels and swaps",
        "The loop at work: an alarm draws labels, labels may bring a new model.",
        (
            _count("edgeloop_drift_alarms_total", "model", "alarms {{model}}"),
            _count("edgeloop_labels_total", "model", "labels {{model}}"),
            _count("edgeloop_swaps_total", "model, reason", "swaps {{model}} {{reason}}"),
        ),
        width=8,
    ),
    Panel(
        "Observations between false alarms",
        "What the recipe asks for, and what was verified on the bundle's own reference.",
        (
            Query(
                f"max by (model) (edgeloop_drift_target_run_length_observations{{{MODEL}}})",
                "asked for {{model}}",
                instant=True,
            ),
            Query(
                f"max by (model) (edgeloop_drift_verified_run_length_observations{{{MODEL}}})",
                "verified {{model}}",
                instant=True,
            ),
        ),
        width=8,
        kind="stat",
    ),
)

WHERE_TIME_GOES = (
    Panel(
        "Where the time goes",
        "Mean seconds per text: waiting for an inference thread, and tokenizing and scoring.",
        tuple(
            Query(
                f"sum by (model) (rate({metric}_sum{{{MODEL}}}[$__rate_interval])) / "
                f"sum by (model) (rate({metric}_count{{{MODEL}}}[$__rate_interval]))",
                f"{name} {{{{model}}}}",
            )
            for metric, name in (
                ("edgeloop_queue_wait_seconds", "queue"),
                ("edgeloop_inference_seconds", "model"),
            )
        ),
        width=12,
        unit="s",
    ),
    Panel(
        "Models",
        "What answers now, whether its monitor is armed (1), and whether it has alarmed (1).",
        (
            Query(f"edgeloop_model_info{{{MODEL}}} == 1", "", instant=True),
            Query(f"edgeloop_drift_armed{{{MODEL}}}", "", instant=True),
            Query(f"edgeloop_drift_alarmed{{{MODEL}}}", "", instant=True),
        ),
        width=12,
        kind="table",
    ),
)


def board() -> dict[str, Any]:
    """The whole dashboard in Grafana's JSON model (schema 39)."""
    rows = (TRAFFIC, DRIFT, WHERE_TIME_GOES)
    return {
        "uid": "edgeloop",
        "title": "edgeloop",
        "description": "Traffic, drift and the loop of every model that edgeloop serves.",
        "tags": ["edgeloop"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "panels": list(_placed([panel for row in rows for panel in row])),
    }


def _variables() -> list[dict[str, Any]]:
    models = "label_values(edgeloop_model_info, model)"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 0},
        {
            "name": "model",
            "type": "query",
            "datasource": DATASOURCE,
            "query": {"query": models, "refId": "models"},
            "definition": models,
            "refresh": 2,
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": "All", "value": "$__all"},
        },
    ]


def _placed(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Left to right, a new line where the grid's width is used up."""
    x = y = 0
    for number, panel in enumerate(panels, start=1):
        if x + panel.width > COLUMNS:
            x, y = 0, y + HEIGHT
        yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHT})
        x += panel.width


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    targets = [_target(query, panel, n) for n, query in enumerate(panel.queries)]
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": DATASOURCE,
        "gridPos": position,
        "targets": targets,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _options(panel),
        "transformations": [{"id": "merge", "options": {}}] if panel.kind == "table" else [],
    }


def _target(query: Query, panel: Panel, number: int) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "instant": query.instant,
        "range": not query.instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps = [GREEN_BASE, RED_LINE] if panel.threshold else [GREEN_BASE]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "fillOpacity": 30 if panel.stacked else 0,
            "thresholdsStyle": {"mode": "line" if panel.threshold else "off"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
    return {"showHeader": True}


def render() -> str:
    """The file's text."""
    return json.dumps(board(), indent=2) + "\n"


if __name__ == "__main__":
    BOARD.write_text(render(), encoding="utf-8")

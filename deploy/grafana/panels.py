"""What a board is made of, and its JSON in Grafana's model (schema 39)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS = 24  # Grafana's grid
HEIGHT = 8
MODEL = 'model=~"$model"'
GREEN_BASE = {"color": "green", "value": None}

Kind = Literal["timeseries", "stat", "table", "status-history", "state-timeline"]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the legend of its lines."""

    expr: str
    legend: str
    # A table and a number show what is true now; a line shows how it came about.
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: `width` in the grid's 24 columns, `unit` in Grafana's names.

    `red`: from which value on it is red, `amber`: from which on it is a warning; on a time series
    they are lines. `log`: a logarithmic axis. `least`: where the axis begins, None for the data's
    own.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    kind: Kind = "timeseries"
    unit: str = "short"
    stacked: bool = False
    red: float | None = None
    amber: float | None = None
    log: bool = False
    least: float | None = 0.0


@dataclass(frozen=True)
class Section:
    """A heading and the panels below it."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """A dashboard; `many`: whether several models are looked at together."""

    uid: str
    title: str
    description: str
    sections: tuple[Section, ...]
    many: bool = True


def rate(metric: str, by: str, legend: str, where: str = MODEL) -> Query:
    """Per second, added over what is not in `by`."""
    return Query(f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))", legend)


def greatest(metric: str, by: str, legend: str, where: str = MODEL, instant: bool = False) -> Query:
    """The greatest of all replicas, now."""
    return Query(f"max by ({by}) ({metric}{{{where}}})", legend, instant)


def quantile(metric: str, q: float, by: str, legend: str, where: str = MODEL) -> Query:
    """A quantile of a histogram, over all replicas."""
    buckets = f"sum by (le, {by}) (rate({metric}_bucket{{{where}}}[$__rate_interval]))"
    return Query(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g} {legend}")


def dashboard(board: Board) -> dict[str, Any]:
    """The whole board as Grafana reads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["edgeloop"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "15s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [_links()],
        "templating": {"list": _variables(board.many)},
        "annotations": {"list": [_alarms(), _swaps()]},
        "panels": list(_placed(board.sections)),
    }


def _links() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "edgeloop",
        "tags": ["edgeloop"],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }


def _variables(many: bool) -> list[dict[str, Any]]:
    models = "label_values(edgeloop_model_info, model)"
    model: dict[str, Any] = {
        "name": "model",
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": models, "refId": "models"},
        "definition": models,
        "refresh": 2,
        "includeAll": many,
        "multi": many,
    }
    if many:
        model |= {"allValue": ".*", "current": {"text": "All", "value": "$__all"}}
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 0}
    return [source, model]


def _alarms() -> dict[str, Any]:
    expr = f"sum by (model) (increase(edgeloop_drift_alarms_total{{{MODEL}}}[$__rate_interval]))"
    return _annotation("Drift alarms", "red", expr, "{{model}}: drift alarm")


def _swaps() -> dict[str, Any]:
    where = f'{MODEL}, reason="ok"'
    expr = f"sum by (model) (increase(edgeloop_swaps_total{{{where}}}[$__rate_interval]))"
    return _annotation("Swaps", "blue", expr, "{{model}}: another bundle")


def _annotation(name: str, color: str, expr: str, title: str) -> dict[str, Any]:
    """Grafana marks the times at which the expression is 1."""
    return {
        "name": name,
        "datasource": DATASOURCE,
        "enable": True,
        "iconColor": color,
        "expr": f"{expr} > bool 0",
        "titleFormat": title,
        "step": "15s",
    }


def _placed(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """Left to right below their headings, a new line where the grid's width is used up."""
    number = y = 0
    for section in sections:
        number += 1
        yield _row(section.title, number, y)
        x, y = 0, y + 1
        for panel in section.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            number += 1
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHT})
            x += panel.width
        y += HEIGHT


def _row(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {
        "id": number,
        "title": title,
        "type": "row",
        "collapsed": False,
        "gridPos": place,
        "panels": [],
    }


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
    steps: list[dict[str, Any]] = [GREEN_BASE]
    if panel.amber is not None:
        steps.append({"color": "orange", "value": panel.amber})
    if panel.red is not None:
        steps.append({"color": "red", "value": panel.red})
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.least is not None:
        defaults["min"] = panel.least
    if panel.kind in ("status-history", "state-timeline"):
        defaults["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "stacking": {"mode": "normal" if panel.stacked else "none"},
            "fillOpacity": 30 if panel.stacked else 0,
            "thresholdsStyle": {"mode": "line" if len(steps) > 1 else "off"},
            "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
    if panel.kind == "timeseries":
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "status-history":
        return {"legend": legend, "showValue": "auto", "rowHeight": 0.9, "colWidth": 0.9}
    if panel.kind == "state-timeline":
        return {"legend": legend, "showValue": "never", "mergeValues": True, "rowHeight": 0.9}
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"]},
            "textMode": "value_and_name",
            "colorMode": "value",
        }
    return {"showHeader": True}

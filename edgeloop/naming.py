"""Prometheus metric names, built and checked in one place.

serve/metrics.py and monitor/metrics.py own the names; both build them here.
Source: https://prometheus.io/docs/practices/naming/ (base units, unit suffix, _total on counters).
"""

import re

NAMESPACE = "edgeloop"
UNITS = ("seconds", "bytes", "ratio", "tokens", "observations", "rows", "info", "")
LABELS = frozenset(
    {
        *("model", "variant", "slice", "version", "digest"),
        *("route", "code", "reason", "stage", "question"),
        *("class", "feature", "bin", "detector", "state", "method", "bound"),
        *("source", "action", "result", "trigger", "check"),
    }
)


def metric_name(subject: str, unit: str = "", total: bool = False) -> str:
    """`edgeloop_<subject>_<unit>[_total]`.

    Raises ValueError where the subject is not lower_snake_case or the unit is not a base unit.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", subject):
        raise ValueError(f"metric subject {subject!r} is not lower_snake_case")
    if unit not in UNITS:
        raise ValueError(f"metric unit {unit!r} is not one of {UNITS}")
    return "_".join(part for part in (NAMESPACE, subject, unit, "total" if total else "") if part)

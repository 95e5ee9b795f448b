"""Metric names keep to Prometheus' conventions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edgeloop.naming import LABELS, NAMESPACE, UNITS, metric_name
from serve.metrics import ServeMetrics


@pytest.mark.parametrize(
    ("subject", "unit", "total", "name"),
    [
        ("requests", "", True, "edgeloop_requests_total"),
        ("request_duration", "seconds", False, "edgeloop_request_duration_seconds"),
        ("received", "bytes", True, "edgeloop_received_bytes_total"),
        ("model", "info", False, "edgeloop_model_info"),
        ("inflight_requests", "", False, "edgeloop_inflight_requests"),
    ],
)
def test_a_name_is_namespace_subject_unit_total(
    subject: str, unit: str, total: bool, name: str
) -> None:
    assert metric_name(subject, unit, total) == name


@pytest.mark.parametrize(
    "subject", ["", "Requests", "request-count", "2xx", "_x", "x_", "a__b", "a b", "a\n", "é"]
)
def test_a_subject_that_is_not_lower_snake_case_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match="is not lower_snake_case"):
        metric_name(subject)


@pytest.mark.parametrize("unit", ["milliseconds", "ms", "percent", "Seconds", "mb"])
def test_a_unit_that_is_not_a_base_unit_is_refused(unit: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        metric_name("latency", unit)


@given(
    st.from_regex(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", fullmatch=True),
    st.sampled_from(UNITS),
    st.booleans(),
)
def test_every_name_is_one_that_prometheus_takes(subject: str, unit: str, total: bool) -> None:
    name = metric_name(subject, unit, total)
    assert re.fullmatch(r"edgeloop_[a-z0-9_]+", name)
    assert "__" not in name
    assert name.endswith("_total") or not total


INFO_LABELS = {"version", "digest"}  # a series per bundle: in the info metric and nowhere else


def test_the_server_uses_only_the_label_names_that_are_agreed() -> None:
    registry = CollectorRegistry()
    metrics = ServeMetrics(registry, "tiny")
    assert metrics.registry is registry
    families = list(registry.collect())
    assert all(family.name.startswith(f"{NAMESPACE}_") for family in families)
    for family in families:
        allowed = LABELS if family.name == "edgeloop_model_info" else LABELS - INFO_LABELS
        used = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert used <= allowed, family.name

"""The metrics of accuracy."""

import math

import pytest
from prometheus_client.core import Metric

from edgeloop.naming import LABELS
from edgeloop.observer import AccuracyStatus, Bounded, Estimated
from monitor.accuracy.metrics import accuracy_metrics


def samples(metrics: list[Metric]) -> dict[tuple[str, str], float]:
    return {
        (s.name, s.labels.get("method", s.labels.get("bound", ""))): s.value
        for metric in metrics
        for s in metric.samples
    }


@pytest.mark.parametrize("status", [None, AccuracyStatus(0.85, 0.9)])
def test_every_series_is_there_before_anything_is_known(status: AccuracyStatus | None) -> None:
    metrics = list(accuracy_metrics(status, "tiny"))
    found = samples(metrics)
    assert len(found) == 8
    known = {key: value for key, value in found.items() if not math.isnan(value)}
    assert known == ({} if status is None else {("edgeloop_accuracy_floor_ratio", ""): 0.85})
    for metric in metrics:
        for sample in metric.samples:
            assert sample.labels["model"] == "tiny"
            assert set(sample.labels) <= LABELS


def test_every_figure_goes_where_its_name_says() -> None:
    status = AccuracyStatus(
        0.85,
        0.9,
        atc=Estimated(0.0, 0.1),
        cbpe=Estimated(0.7, 0.1),
        anchored=Bounded(0.5, 0.6, 0.65),
        labelled=Bounded(0.2, 0.3, 0.4),
        calibration_error=0.05,
    )
    assert samples(list(accuracy_metrics(status, "tiny"))) == {
        ("edgeloop_estimated_accuracy_ratio", "atc"): 0.0,
        ("edgeloop_estimated_accuracy_ratio", "cbpe"): 0.7,
        ("edgeloop_estimated_accuracy_ratio", "anchored"): 0.6,
        ("edgeloop_labelled_accuracy_ratio", "lower"): 0.2,
        ("edgeloop_labelled_accuracy_ratio", "estimate"): 0.3,
        ("edgeloop_labelled_accuracy_ratio", "upper"): 0.4,
        ("edgeloop_accuracy_floor_ratio", ""): 0.85,
        ("edgeloop_calibration_error_ratio", ""): 0.05,
    }

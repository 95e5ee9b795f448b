"""The metrics of accuracy, read from an observer's status when Prometheus scrapes. A figure that is
not known yet is NaN, which no rule takes for a low one.
"""

import math
from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from edgeloop.naming import metric_name
from edgeloop.observer import AccuracyStatus

ESTIMATED = metric_name("estimated_accuracy", "ratio")
LABELLED = metric_name("labelled_accuracy", "ratio")
FLOOR = metric_name("accuracy_floor", "ratio")
CALIBRATION = metric_name("calibration_error", "ratio")


def accuracy_metrics(status: AccuracyStatus | None, model: str) -> Iterator[Metric]:
    """Every series, whatever is known; of a model without classes all are NaN."""
    known = status or AccuracyStatus(floor=math.nan, reference=math.nan)
    anchored, labelled = known.anchored, known.labelled
    yield _gauge(
        ESTIMATED,
        "Accuracy over the last texts, estimated without labels, and put right with audited ones",
        "method",
        model,
        {
            "atc": None if known.atc is None else known.atc.value,
            "cbpe": None if known.cbpe is None else known.cbpe.value,
            "anchored": None if anchored is None else anchored.estimate,
        },
    )
    yield _gauge(
        LABELLED,
        "Accuracy over the last labels, with bounds that hold at all times at once",
        "bound",
        model,
        {
            "lower": None if labelled is None else labelled.lower,
            "estimate": None if labelled is None else labelled.estimate,
            "upper": None if labelled is None else labelled.upper,
        },
    )
    yield _single(FLOOR, "The accuracy that the recipe asks for", model, known.floor)
    yield _single(
        CALIBRATION,
        "Expected calibration error of the calibrated confidence over the last labels",
        model,
        known.calibration_error,
    )


def _gauge(
    name: str, said: str, label: str, model: str, values: Mapping[str, float | None]
) -> Metric:
    gauge = GaugeMetricFamily(name, said, labels=("model", label))
    for value, number in values.items():
        gauge.add_metric((model, value), math.nan if number is None else number)
    return gauge


def _single(name: str, said: str, model: str, number: float | None) -> Metric:
    gauge = GaugeMetricFamily(name, said, labels=("model",))
    gauge.add_metric((model,), math.nan if number is None else number)
    return gauge

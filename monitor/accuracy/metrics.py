"""The metrics of accuracy, read from an observer's status when Prometheus scrapes. A figure that is
not known yet is NaN, which no rule takes for a low one.
"""

import math
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from edgeloop.naming import metric_name
from edgeloop.observer import AccuracyStatus

ESTIMATED = metric_name("estimated_accuracy", "ratio")
LABELLED = metric_name("labelled_accuracy", "ratio")
FLOOR = metric_name("accuracy_floor", "ratio")
CALIBRATION = metric_name("calibration_error", "ratio")


def accuracy_metrics(status: AccuracyStatus | None, model: str) -> Iterator[Metric]:
    """Every series, whatever is known; of a model without classes all are NaN."""
    yield _gauge(
        ESTIMATED,
        "Accuracy over the last texts, estimated without labels, and put right with audited ones",
        "method",
        model,
        {
            "atc": _value(status and status.atc and status.atc.value),
            "cbpe": _value(status and status.cbpe and status.cbpe.value),
            "anchored": _value(status and status.anchored and status.anchored.estimate),
        },
    )
    labelled = status and status.labelled
    yield _gauge(
        LABELLED,
        "Accuracy over the last labels, with bounds that hold at all times at once",
        "bound",
        model,
        {
            "lower": _value(labelled and labelled.lower),
            "estimate": _value(labelled and labelled.estimate),
            "upper": _value(labelled and labelled.upper),
        },
    )
    floor = GaugeMetricFamily(FLOOR, "The accuracy that the recipe asks for", labels=("model",))
    floor.add_metric((model,), _value(status and status.floor))
    yield floor
    calibration = GaugeMetricFamily(
        CALIBRATION,
        "Expected calibration error of the calibrated confidence over the last labels",
        labels=("model",),
    )
    calibration.add_metric((model,), _value(status and status.calibration_error))
    yield calibration


def _gauge(name: str, said: str, label: str, model: str, values: dict[str, float]) -> Metric:
    gauge = GaugeMetricFamily(name, said, labels=("model", label))
    for value, number in values.items():
        gauge.add_metric((model, value), number)
    return gauge


def _value(number: float | None) -> float:
    return math.nan if number is None else number

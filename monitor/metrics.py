"""Every metric of the drift monitor, read from the observer's status when Prometheus scrapes.

The evidence ratio is log evidence over threshold: 1 and more is an alarm. `DriftCollector` goes
into the server's own registry.
"""

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgeloop.naming import metric_name
from edgeloop.observer import Observer, ObserverStatus
from monitor.accuracy.errors import DETECTOR as ERRORS
from monitor.accuracy.metrics import accuracy_metrics
from monitor.observer import DETECTOR, DriftObserver

GAUGES: dict[str, tuple[str, Callable[[ObserverStatus], float]]] = {
    metric_name("drift_threshold"): (
        "Log evidence at which the alarm is raised",
        lambda status: status.threshold,
    ),
    metric_name("drift_armed"): (
        "1 where alarms can be raised",
        lambda status: float(status.armed),
    ),
    metric_name("drift_alarmed"): (
        "1 from an alarm until the bundle is swapped",
        lambda status: float(status.alarmed),
    ),
    metric_name("drift_target_run_length", "observations"): (
        "Promised observations between false alarms",
        lambda status: float(status.target_run_length),
    ),
    metric_name("drift_verified_run_length", "observations"): (
        "Observations between false alarms in the simulation on the reference",
        lambda status: status.verified_run_length,
    ),
    metric_name("drift_effect_size"): (
        "Distance between recent texts and the reference, in standard deviations",
        lambda status: status.effect_size,
    ),
    metric_name("drift_burst_evidence", "ratio"): (
        "1 and more where texts come in longer bursts than in the reference: no promise",
        lambda status: status.burst_evidence_ratio,
    ),
}
COUNTERS: dict[str, tuple[str, Callable[[ObserverStatus], float]]] = {
    metric_name("drift_observations", total=True): (
        "Texts that the drift monitor took",
        lambda status: float(status.observations),
    ),
    metric_name("drift_skipped", total=True): (
        "Texts that the drift monitor skipped, their embedding was not finite",
        lambda status: float(status.skipped),
    ),
    metric_name("drift_alarms", total=True): (
        "Drift alarms of the bundle that is served",
        lambda status: float(status.alarms),
    ),
}


class DriftCollector(Collector):
    """Metrics of the DriftObserver that watches the bundle served at the moment."""

    def __init__(self, current: Callable[[], Observer]) -> None:
        self._current = current

    def collect(self) -> Iterator[Metric]:
        """One sample per metric."""
        observer = self._current()
        assert isinstance(observer, DriftObserver)  # whoever registers this makes the observers
        status, model = observer.status(), observer.model
        yield _evidence(status, model)
        yield from accuracy_metrics(status.accuracy, model)
        for name, (description, read) in GAUGES.items():
            gauge = GaugeMetricFamily(name, description, labels=("model",))
            gauge.add_metric((model,), read(status))
            yield gauge
        for name, (description, count) in COUNTERS.items():
            counter = CounterMetricFamily(name, description, labels=("model",))
            counter.add_metric((model,), count(status))
            yield counter


def _evidence(status: ObserverStatus, model: str) -> Metric:
    ratio = status.log_evidence / status.threshold if status.threshold > 0.0 else 0.0
    gauge = GaugeMetricFamily(
        metric_name("drift_evidence", "ratio"),
        "Log evidence of drift over the alarm threshold",
        labels=("model", "detector"),
    )
    gauge.add_metric((model, DETECTOR), ratio)
    accuracy = status.accuracy
    if accuracy is not None:
        gauge.add_metric((model, ERRORS), accuracy.errors_log_evidence / accuracy.errors_threshold)
    return gauge

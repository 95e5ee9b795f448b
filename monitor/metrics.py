"""Every metric of the drift monitor, read from the observer when Prometheus scrapes.

An evidence ratio is log evidence over threshold: 1 and more is an alarm. `DriftCollector` goes into
the server's own registry. Counters are of this process and all the bundles it has served: they
never fall at a swap, and start at 0 with the process (monitor.tally). The bins of a feature are the
deciles of the bundle that is served: over a swap counts of two meanings are added up, so that PSI
says something again when the swap lies further back than its window.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from edgeloop.naming import metric_name
from edgeloop.observer import Observer, ObserverStatus
from monitor.accuracy.errors import DETECTOR as ERRORS
from monitor.accuracy.metrics import accuracy_metrics
from monitor.observer import DriftObserver
from monitor.psi import bin_ratios
from monitor.states import STATES
from monitor.tally import BUCKETS, Tally, reference_bins, shown_bins

EVERY_SLICE = "all"
KEPT_TALLIES = 4


class Counts:
    """What observers have counted together."""

    def __init__(self) -> None:
        self.observations = 0
        self.skipped = 0
        self.alarms = 0
        self.seconds = 0.0
        self.durations = [0] * (len(BUCKETS) + 1)
        self.bins: Counter[tuple[str, int]] = Counter()

    def copy(self) -> "Counts":
        """The same counts, to be added to."""
        same = Counts()
        same.add(self)
        return same

    def add(self, tally: "Tally | Counts") -> None:
        """Add one observer's."""
        self.observations += tally.observations
        self.skipped += tally.skipped
        self.alarms += tally.alarms
        self.seconds += tally.seconds
        both = zip(self.durations, tally.durations, strict=True)
        self.durations = [mine + own for mine, own in both]
        self.bins.update(tally.bins)


GAUGES: dict[str, tuple[str, Callable[[ObserverStatus], float]]] = {
    metric_name("drift_threshold"): (
        "Log evidence at which the primary detector raises the alarm",
        lambda status: status.threshold,
    ),
    metric_name("drift_armed"): (
        "1 where alarms can be raised",
        lambda status: float(status.armed),
    ),
    metric_name("drift_alarmed"): (
        "1 from an alarm until the traffic is quiet again or the bundle is swapped",
        lambda status: float(status.alarmed),
    ),
    metric_name("drift_target_run_length", "observations"): (
        "Promised observations between false alarms of all detectors together",
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
    metric_name("drift_smallest_shift", "ratio"): (
        "Share of traffic below which a new topic stays unseen",
        lambda status: status.smallest_visible_share,
    ),
    metric_name("drift_reference", "rows"): (
        "Rows that drift is measured against",
        lambda status: float(status.reference_rows),
    ),
    metric_name("drift_reference_timestamp", "seconds"): (
        "When the bundle with the reference was made",
        lambda status: status.reference_timestamp_seconds,
    ),
    metric_name("monitor_state", "bytes"): (
        "Size of the drift monitor's state",
        lambda status: float(status.state_bytes),
    ),
}
COUNTERS: dict[str, tuple[str, Callable[[Counts], float]]] = {
    metric_name("drift_observations", total=True): (
        "Texts that the drift monitor took",
        lambda counts: float(counts.observations),
    ),
    metric_name("drift_skipped", total=True): (
        "Texts that the drift monitor skipped, their embedding was not finite",
        lambda counts: float(counts.skipped),
    ),
    metric_name("drift_alarms", total=True): (
        "Drift alarms",
        lambda counts: float(counts.alarms),
    ),
}


class DriftCollector(Collector):
    """Metrics of the DriftObserver that watches the bundle served at the moment, and the counters
    of all that did."""

    def __init__(self, current: Callable[[], Observer]) -> None:
        self._current = current
        # The last texts of an observer are still on their way when it leaves: the tallies of the
        # latest are kept, in order of appearance, those of earlier ones are added up for good.
        self._tallies: list[Tally] = []
        self._gone = Counts()

    def collect(self) -> Iterator[Metric]:
        """Every sample of the moment."""
        observer = self._current()
        assert isinstance(observer, DriftObserver)  # whoever registers this makes the observers
        status, model = observer.status(), observer.model
        yield _evidence(status, model)
        yield from accuracy_metrics(status.accuracy, model)
        yield _states(status, model)
        for name, (description, read) in GAUGES.items():
            gauge = GaugeMetricFamily(name, description, labels=("model",))
            gauge.add_metric((model,), read(status))
            yield gauge
        counts = self._counts(observer.tally)
        for name, (description, count) in COUNTERS.items():
            counter = CounterMetricFamily(name, description, labels=("model",))
            counter.add_metric((model,), count(counts))
            yield counter
        yield _durations(counts, model)
        yield from _bins(counts, observer)

    def _counts(self, tally: Tally) -> Counts:
        if all(own is not tally for own in self._tallies):
            self._tallies.append(tally)
        while len(self._tallies) > KEPT_TALLIES:
            self._gone.add(self._tallies.pop(0))
        counts = self._gone.copy()
        for own in self._tallies:
            counts.add(own)
        return counts


def _evidence(status: ObserverStatus, model: str) -> Metric:
    gauge = GaugeMetricFamily(
        metric_name("drift_evidence", "ratio"),
        "Log evidence of drift over the alarm threshold, by detector",
        labels=("model", "detector", "slice"),
    )
    for detector, ratio in status.evidence_ratios.items():
        gauge.add_metric((model, detector, EVERY_SLICE), ratio)
    accuracy = status.accuracy
    if accuracy is not None:
        ratio = accuracy.errors_log_evidence / accuracy.errors_threshold
        gauge.add_metric((model, ERRORS, EVERY_SLICE), ratio)
    return gauge


def _states(status: ObserverStatus, model: str) -> Metric:
    gauge = GaugeMetricFamily(
        metric_name("drift_state"), "1 for the state of the model", labels=("model", "state")
    )
    for state in STATES:
        gauge.add_metric((model, state), float(status.state == state))
    return gauge


def _durations(counts: Counts, model: str) -> Metric:
    histogram = HistogramMetricFamily(
        metric_name("monitor_update", "seconds"),
        "Time that the drift monitor takes for a text",
        labels=("model",),
    )
    bounds = [*map(str, BUCKETS), "+Inf"]
    rising = accumulate(map(float, counts.durations))
    histogram.add_metric((model,), list(zip(bounds, rising, strict=True)), counts.seconds)
    return histogram


def _bins(counts: Counts, observer: DriftObserver) -> Iterator[Metric]:
    labels = ("model", "feature", "bin")
    taken = CounterMetricFamily(
        metric_name("feature_bin", total=True),
        "Texts by the reference's decile of each feature; of the class mix by class",
        labels=labels,
    )
    known = GaugeMetricFamily(
        metric_name("reference_bin", "ratio"),
        "Share of the reference in each bin of a feature, half a row added",
        labels=labels,
    )
    for scale in observer.family.scales:
        shown, rows = shown_bins(scale), reference_bins(scale)
        ratios = bin_ratios([rows[own] for own in shown]).tolist()
        for own, ratio in zip(shown, ratios, strict=True):
            taken.add_metric(
                (observer.model, scale.name, str(own)), float(counts.bins[scale.name, own])
            )
            known.add_metric((observer.model, scale.name, str(own)), ratio)
    yield taken
    yield known

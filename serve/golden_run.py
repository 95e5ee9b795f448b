"""One replay of the golden rows beside the traffic: what came out of it, and its metrics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgeloop.naming import metric_name

# Golden scores are kept to six places. A kernel that rounds in another order moves an fp32 score
# by some 1e-6; another CPU's int8 kernels move it by 1e-2.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """`at`: when it ended, ISO 8601; `flips` of the `rows` got another answer than the bundle
    promises; `largest_difference` of a probability; `damage`: what is wrong with the bundle's
    files on the disk, empty where nothing is."""

    at: str
    rows: int
    flips: int
    largest_difference: float
    damage: str

    @property
    def flip_ratio(self) -> float:
        """Of the rows."""
        return self.flips / self.rows if self.rows else 0.0

    @property
    def runtime_changed(self) -> bool:
        """Does this machine answer otherwise than the bundle says, or would it after a restart?"""
        return bool(self.flips or self.damage) or self.largest_difference > TOLERANCE


GAUGES: dict[str, tuple[str, Callable[[GoldenRun], float]]] = {
    metric_name("golden_flip", "ratio"): (
        "Golden rows that are answered otherwise than the bundle states",
        lambda run: run.flip_ratio,
    ),
    metric_name("golden_largest_difference"): (
        "Largest difference of a golden row's probability from the one that the bundle states",
        lambda run: run.largest_difference,
    ),
    metric_name("runtime_changed"): (
        "1 where golden rows are answered otherwise, or the bundle's files are damaged",
        lambda run: float(run.runtime_changed),
    ),
}
NOTHING = GoldenRun(at="", rows=0, flips=0, largest_difference=0.0, damage="")


class GoldenMetrics(Collector):
    """What the last replay of the bundle that answers showed; 0 before its first."""

    def __init__(
        self, registry: CollectorRegistry, model: str, last: Callable[[], GoldenRun | None]
    ) -> None:
        self._model = model
        self._last = last
        self.runs = Counter(
            metric_name("golden_runs", total=True),
            "Replays of the golden rows beside the traffic",
            ("model",),
            registry=registry,
        ).labels(model)
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """One sample per metric."""
        run = self._last() or NOTHING
        for name, (said, read) in GAUGES.items():
            gauge = GaugeMetricFamily(name, said, labels=("model",))
            gauge.add_metric((self._model,), read(run))
            yield gauge

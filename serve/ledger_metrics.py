"""What the ledger says about retraining, as metrics of the server that follows it.

A thread reads the ledger every few seconds and a scrape shows what was read last, so that a slow
or missing ledger delays no scrape. The counts are the ledger's own: they go on over restarts, and
every server that follows the same ledger shows the same, so take their maximum and not their sum.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edgeloop.errors import LedgerError
from edgeloop.ledger import Ledger
from edgeloop.ledger_summary import LedgerSummary
from edgeloop.naming import metric_name

logger = logging.getLogger(__name__)

READ_SECONDS = 10.0


class LedgerMetrics(Collector):
    """Reads one model's ledger now, and then as often as `run` says. Raises LedgerError where it
    cannot be read at first: counters that began at 0 would seem to have risen."""

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._ledger = ledger
        self._model = model
        self._summary = ledger.summary(model)
        self._readable = True

    async def run(self, seconds: float = READ_SECONDS) -> None:
        """Read again and again until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.read)

    def read(self) -> None:
        """Read once; what was read last stays where the ledger cannot be read. Blocks."""
        try:
            self._summary = self._ledger.summary(self._model)
        except LedgerError as problem:
            if self._readable:
                logger.error("event=ledger_metrics_stale problem=%s", problem)
            self._readable = False
        else:
            self._readable = True

    def collect(self) -> Iterator[Metric]:
        """Every family, from what was read last."""
        found = self._summary
        yield from self._counts(found)
        yield from self._gauges(found)
        yield self._family(
            GaugeMetricFamily,
            metric_name("gate_drop", "ratio"),
            "Share of the rows that the last challenger lost in its gate, negative where it won",
            ("check", "bound"),
            {(check, bound): drop for (check, bound), drop in found.gate_drops.items()},
        )

    def _counts(self, found: LedgerSummary) -> Iterator[Metric]:
        counts: tuple[tuple[str, str, tuple[str, ...], Mapping[tuple[str, ...], int]], ...] = (
            (
                "retrain_runs",
                "Runs that ended, by who started them and how they ended",
                ("trigger", "result"),
                {(trigger, result): n for (trigger, result), n in found.runs.items()},
            ),
            (
                "retrain_decisions",
                "Decisions of `edgeloop retrain`",
                ("action",),
                {(action,): n for action, n in found.decisions.items()},
            ),
            (
                "retrain_labels",
                "Labels in the ledger, by where they came from",
                ("source",),
                {(source,): n for source, n in found.labels.items()},
            ),
            ("retrain_verdicts", "Drift alarms in the ledger", (), {(): found.alarms}),
            ("promotions", "Bundles deployed for the first time", (), {(): found.promotions}),
            (
                "retrain_rollbacks",
                "Bundles deployed again after another one",
                (),
                {(): found.rollbacks},
            ),
        )
        for subject, description, labels, values in counts:
            name = metric_name(subject, total=True)
            yield self._family(CounterMetricFamily, name, description, labels, values)

    def _gauges(self, found: LedgerSummary) -> Iterator[Metric]:
        gauges = (
            (
                "retrain_in_progress",
                "",
                "1 while a run holds the ledger's lease",
                found.in_progress,
            ),
            (
                "retrain_unfinished_runs",
                "",
                "Runs that began, did not end, and that nobody goes on with",
                found.unfinished_runs,
            ),
            (
                "retrain_missing_labels",
                "",
                "Labels that the last decision still asked for",
                found.missing_labels,
            ),
            (
                "retrain_last_decision_timestamp",
                "seconds",
                "When `edgeloop retrain` decided last; 0 for never",
                found.last_decision_seconds,
            ),
            (
                "retrain_last_success_timestamp",
                "seconds",
                "When a new bundle was deployed last; 0 for never",
                found.last_promotion_seconds,
            ),
            (
                "retrain_cooldown_until_timestamp",
                "seconds",
                "Until when no retraining begins; 0 where none was finished",
                found.cooldown_until_seconds,
            ),
            (
                "ledger_readable",
                "",
                "1 where the last look at the ledger succeeded",
                self._readable,
            ),
        )
        for subject, unit, description, value in gauges:
            name = metric_name(subject, unit)
            yield self._family(GaugeMetricFamily, name, description, (), {(): float(value)})

    def _family(
        self,
        kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        description: str,
        labels: Iterable[str],
        values: Mapping[tuple[str, ...], float],
    ) -> Metric:
        family = kind(name, description, labels=("model", *labels))
        for value_labels, value in values.items():
            family.add_metric((self._model, *value_labels), value)
        return family

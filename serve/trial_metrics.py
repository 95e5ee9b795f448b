"""The series of what is on trial; they exist from the start at 0, trial or not."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from edgeloop.naming import metric_name
from serve.evidence import QUESTIONS, SIDES, Standing


class TrialMetrics:
    """The evidence, how much it rests on, and what was not compared, by variant."""

    def __init__(self, registry: CollectorRegistry, model: str, variants: Sequence[str]) -> None:
        self._model = model
        self._evidence = Gauge(
            metric_name("trial_evidence"),
            "Evidence of the trial: a verdict stands at 1 / alpha; 0 without a trial",
            ("model", "variant", "question"),
            registry=registry,
        )
        self._compared = Gauge(
            metric_name("trial_compared_texts"),
            "Texts whose two answers were compared in the trial of the moment",
            ("model", "variant"),
            registry=registry,
        )
        self._dropped = Counter(
            metric_name("trial_dropped", total=True),
            "Texts that a trial did not compare because it was behind",
            ("model", "variant"),
            registry=registry,
        )
        for variant in variants:
            self.show(variant, None)
            self._dropped.labels(model, variant)

    def show(self, variant: str, standing: Standing | None) -> None:
        """Set the evidence of a trial; None where there is none."""
        self._compared.labels(self._model, variant).set(standing.compared if standing else 0)
        values = {
            f"{side}_{question}": standing.questions[side][question] if standing else 0.0
            for side in SIDES
            for question in QUESTIONS
        }
        values |= {side: getattr(standing, side) if standing else 0.0 for side in SIDES}
        for question, value in values.items():
            self._evidence.labels(self._model, variant, question).set(value)

    def drop(self, variant: str) -> None:
        """Count a text that a trial did not compare."""
        self._dropped.labels(self._model, variant).inc()

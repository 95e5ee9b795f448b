"""The observer of a real bundle, and its metrics."""

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.errors import MonitorError
from edgeloop.observer import Observation, Observer, observed
from edgeloop.records import Verdict
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from monitor.metrics import COUNTERS, GAUGES, DriftCollector
from monitor.observer import MIXTURE, DriftObserver
from tests import monitored, tiny

SHIFTED = ["gas cylinder my bottle please swap", "the gas bottle is empty", "swap my cylinder now"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return monitored.make_bundle(tmp_path_factory.mktemp("observed"))


def observations(bundle: Bundle, texts: list[str]) -> list[Observation]:
    model = OnnxModel(bundle.file(MODEL), bundle.file(TOKENIZER), bundle.manifest.max_tokens)
    task, labels = TASKS[bundle.manifest.task], bundle.manifest.labels
    return [observed(text, model.answer(text), task, labels) for text in texts]


def ordinary(count: int) -> list[str]:
    return [text for text, _ in tiny.sentences(count, seed=77)]


def watch(observer: Observer, seen: list[Observation]) -> list[Verdict]:
    found = [observer.observe(observation) for observation in seen]
    return [verdict for verdict in found if verdict is not None]


def test_ordinary_traffic_raises_no_alarm(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    assert watch(observer, observations(bundle, ordinary(150))) == []
    status = observer.status()
    assert status.armed
    assert not status.alarmed
    assert status.observations == 150
    assert status.log_evidence < status.threshold


def test_shifted_traffic_raises_one_verdict_that_says_what_moved(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    watch(observer, observations(bundle, ordinary(100)))
    # A new word that the model does not mind, then rows that it does.
    filler = ("my", "the", "it", "now", "i")
    harmless = [" ".join("gas" if w in filler else w for w in t.split()) for t in ordinary(30)]
    (verdict,) = watch(observer, observations(bundle, [*harmless, *SHIFTED]))
    assert verdict.model == "tiny"
    assert verdict.bundle_digest == bundle.digest
    assert verdict.at.endswith("+00:00")
    assert 100 < verdict.observation <= 133
    assert verdict.log_evidence >= verdict.threshold
    assert verdict.words[0].name == "gas"
    assert verdict.words[0].reference_ratio == 0.0
    assert verdict.words[0].recent_ratio >= 0.2
    assert {m.name for m in verdict.classes} == set(tiny.LABELS)
    assert observer.status().alarms == 1
    assert observer.status().alarmed


def test_rows_that_are_not_finite_leave_no_trace_but_their_count(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    seen = observations(bundle, ordinary(3))
    broken = Observation("x", np.full_like(seen[0].embedding, np.nan), seen[0].probabilities, 1)
    assert observer.observe(broken) is None
    assert (observer.status().skipped, observer.status().observations) == (1, 0)


def test_an_advisory_bundle_shows_evidence_and_never_alarms(tmp_path: Path) -> None:
    bundle = monitored.make_bundle(tmp_path, rows=60)
    observer = DriftObserver(bundle)
    assert watch(observer, observations(bundle, SHIFTED * 40)) == []
    status = observer.status()
    assert not status.armed
    assert status.log_evidence > status.threshold
    assert not status.alarmed


def test_a_bundle_without_a_reference_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(MonitorError, match="not a drift reference"):
        DriftObserver(tiny_bundle)


def test_every_metric_is_there_before_the_first_request(bundle: Bundle) -> None:
    registry = CollectorRegistry()
    observer = DriftObserver(bundle)
    registry.register(DriftCollector(lambda: observer))
    found = generate_latest(registry).decode()
    for name in (*GAUGES, *COUNTERS):
        assert f'{name}{{model="tiny"}} ' in found
    labels = {"model": "tiny", "detector": MIXTURE, "slice": "all"}
    assert registry.get_sample_value("edgeloop_drift_evidence_ratio", labels) == 0.0
    assert registry.get_sample_value("edgeloop_drift_armed", {"model": "tiny"}) == 1.0


def test_metrics_follow_the_observer_of_the_moment(bundle: Bundle) -> None:
    registry, current = CollectorRegistry(), [DriftObserver(bundle)]
    registry.register(DriftCollector(lambda: current[0]))
    watch(current[0], observations(bundle, SHIFTED * 30))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"edgeloop_drift_{name}", {"model": "tiny", **labels})

    assert (value("observations_total"), value("alarms_total"), value("alarmed")) == (90, 1, 1)
    assert (value("evidence_ratio", detector=MIXTURE, slice="all") or 0.0) >= 1.0
    assert value("target_run_length_observations") == monitored.TARGET
    current[0] = DriftObserver(bundle)
    assert (value("observations_total"), value("alarms_total"), value("alarmed")) == (0, 0, 0)

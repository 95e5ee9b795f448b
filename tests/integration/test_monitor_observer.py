"""The observer of a real bundle, and its metrics."""

import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edgeloop.bundle import MODEL, TOKENIZER, Bundle
from edgeloop.errors import MonitorError
from edgeloop.observer import Labelled, Observation, Observer, observed
from edgeloop.records import Verdict
from edgeloop.runtime import OnnxModel
from edgeloop.tasks import TASKS
from monitor.metrics import COUNTERS, GAUGES, DriftCollector
from monitor.observer import MIXTURE, DriftObserver
from monitor.psi import psi, psi_threshold
from monitor.secondary import CLASS_MIX
from monitor.tally import reference_bins, shown_bins
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


def test_words_that_the_reference_never_had_raise_one_verdict_at_once(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    watch(observer, observations(bundle, ordinary(100)))
    (verdict,) = watch(observer, observations(bundle, SHIFTED * 3))
    assert verdict.model == "tiny"
    assert verdict.bundle_digest == bundle.digest
    assert verdict.at.endswith("+00:00")
    assert 100 < verdict.observation <= 106
    assert verdict.log_evidence >= verdict.threshold
    assert "unknown_token_ratio" in verdict.detectors
    assert verdict.detector in verdict.detectors
    assert all(verdict.evidence_ratios[name] >= 1.0 for name in verdict.detectors)
    assert verdict.evidence_ratios.keys() == {MIXTURE, *observer.family.names, CLASS_MIX}
    assert verdict.onset_observation is not None
    assert 99 <= verdict.onset_observation <= 103
    assert observer.status().alarms == 1
    assert observer.status().alarmed


def test_a_verdict_says_what_moved(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    watch(observer, observations(bundle, ordinary(100)))
    (verdict,) = watch(observer, observations(bundle, billing(100)))
    assert verdict.words[0].name in tiny.WORDS["billing"]
    assert verdict.words[0].recent_ratio > verdict.words[0].reference_ratio
    assert verdict.classes[0].name == "billing"
    assert {m.name for m in verdict.classes} == set(tiny.LABELS)
    assert verdict.ngrams
    assert all(len(m.name) == 8 and int(m.name, 16) >= 0 for m in verdict.ngrams)
    assert {f.name for f in verdict.features} == set(observer.family.names)
    evidence = [f.evidence_ratio for f in verdict.features]
    assert evidence == sorted(evidence, reverse=True)


def test_the_nearest_reference_rows_are_like_the_new_ones(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    watch(observer, observations(bundle, ordinary(100)))
    (verdict,) = watch(observer, observations(bundle, billing(100)))
    # The rows that `monitored.make_run` wrote.
    rows = {row.id: row for row in tiny.rows("text-classification", 560, 5)}
    labels = [rows[name].label for name in verdict.reference_rows]
    assert len(labels) >= 3
    assert set(labels) == {"billing"}


def billing(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return [tiny.sentence(rng, "billing") for _ in range(count)]


# -- states ----------------------------------------------------------------------------------------


def test_drift_that_goes_on_raises_no_second_verdict_and_its_evidence_stands(
    bundle: Bundle,
) -> None:
    observer = DriftObserver(bundle)
    assert len(watch(observer, observations(bundle, SHIFTED * 100))) == 1
    status = observer.status()
    assert (status.state, status.alarms, status.alarmed) == ("suspect", 1, True)
    assert max(status.evidence_ratios.values()) >= 1.0
    assert status.effect_size > 0.0


def test_quiet_traffic_recovers_and_the_next_drift_is_a_new_alarm(tmp_path: Path) -> None:
    bundle = monitored.make_bundle(tmp_path, target=2_000)
    observer = DriftObserver(bundle)
    states = []
    rows = observations(bundle, ordinary(300))
    assert len(watch(observer, observations(bundle, SHIFTED * 3))) == 1
    for _ in range(8):
        assert watch(observer, rows) == []
        states.append(observer.status().state)
        if states[-1] != "suspect":
            break
    assert states[-1] in ("recovering", "ok")
    assert not observer.status().alarmed
    assert max(observer.status().evidence_ratios.values()) < 1.0
    assert len(watch(observer, observations(bundle, SHIFTED * 3))) == 1
    assert observer.status().alarms == 2


def test_proven_harm_shows_without_an_alarm_and_goes_with_its_proof(bundle: Bundle) -> None:
    observer = DriftObserver(bundle)
    rows = observations(bundle, ordinary(3))

    def take(right: bool, first: int, count: int) -> None:
        for at in range(first, first + count):
            observer.label(Labelled(f"row {at}", at, rows[0].probabilities, right, "audit"))

    take(right=False, first=1, count=60)
    watch(observer, rows[:1])
    assert (observer.status().state, observer.status().alarmed) == ("harmful", False)
    take(right=True, first=61, count=100)
    watch(observer, rows[1:2])
    assert observer.status().state == "harmful"
    take(right=True, first=161, count=600)
    watch(observer, rows[2:3])
    assert observer.status().state == "suspect"


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
    evidence = [
        value("evidence_ratio", detector=name, slice="all") or 0.0
        for name in (MIXTURE, *current[0].family.names, CLASS_MIX)
    ]
    assert max(evidence) >= 1.0
    assert value("target_run_length_observations") == monitored.TARGET
    assert value("state", state="suspect") == 1.0
    assert value("state", state="ok") == 0.0


def test_counters_go_on_over_swaps_and_begin_at_0_after_a_restart(bundle: Bundle) -> None:
    registry, current = CollectorRegistry(), [DriftObserver(bundle)]
    registry.register(DriftCollector(lambda: current[0]))
    first = current[0]
    rows = observations(bundle, SHIFTED * 10)
    watch(first, rows)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny", **labels})

    assert value("drift_observations_total") == 30
    current[0] = DriftObserver(bundle)
    assert (value("drift_alarmed"), value("drift_alarms_total")) == (0, 1)
    watch(first, rows[:2])  # its last texts were still on their way
    watch(current[0], rows[:5])
    assert value("drift_observations_total") == 37
    assert value("monitor_update_seconds_count") == 37
    taken = [value("feature_bin_total", feature="entropy", bin=str(own)) for own in range(10)]
    assert sum(count or 0.0 for count in taken) == 37
    for at in range(6):  # long gone observers are still counted
        current[0] = DriftObserver(bundle)
        assert value("drift_observations_total") == 37 + at
        watch(current[0], rows[:1])
    restored = DriftObserver(bundle)
    restored.restore(first.state())
    again = CollectorRegistry()
    again.register(DriftCollector(lambda: restored))
    assert restored.status().observations == 32
    assert again.get_sample_value("edgeloop_drift_observations_total", {"model": "tiny"}) == 0.0


def test_the_bins_of_two_replicas_add_up_to_psi(bundle: Bundle) -> None:
    registries = []
    for texts in (ordinary(90), billing(90)):
        observer = DriftObserver(bundle)
        watch(observer, observations(bundle, texts))
        registries.append(CollectorRegistry())
        registries[-1].register(DriftCollector(partial(lambda own: own, observer)))
    scale = next(s for s in observer.family.scales if s.name == CLASS_MIX)
    bins = shown_bins(scale)
    assert len(bins) == len(tiny.LABELS)

    def values(name: str, registry: CollectorRegistry) -> list[float]:
        names = {"model": "tiny", "feature": CLASS_MIX}
        found = [registry.get_sample_value(name, {**names, "bin": str(own)}) for own in bins]
        return [value or 0.0 for value in found]

    each = np.array([values("edgeloop_feature_bin_total", own) for own in registries])
    q = np.array(values("edgeloop_reference_bin_ratio", registries[0]))
    assert q.sum() == pytest.approx(1.0)
    p = (each.sum(axis=0) + 0.5) / (each.sum() + 0.5 * len(bins))
    known = [count for count in reference_bins(scale) if count]
    found = psi(each.sum(axis=0).astype(np.int64), known)
    assert float(np.sum((p - q) * np.log(p / q))) == pytest.approx(float(found))
    assert found > psi_threshold(180, 560, len(bins))
    assert psi(each[0].astype(np.int64), known) < psi_threshold(90, 560, len(bins))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say_about_the_metrics(bundle: Bundle) -> None:
    registry, observer = CollectorRegistry(), DriftObserver(bundle)
    registry.register(DriftCollector(lambda: observer))
    watch(observer, observations(bundle, SHIFTED))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# -- accuracy --------------------------------------------------------------------------------------


def upper_bound(observer: DriftObserver) -> float | None:
    accuracy = observer.status().accuracy
    labelled = None if accuracy is None else accuracy.labelled
    return None if labelled is None else labelled.upper


def labels_of(bundle: Bundle, count: int, wrong: bool = False) -> list[Labelled]:
    seen = observations(bundle, ordinary(count))
    return [
        Labelled(f"row {at}", at + 1, observation.probabilities, not wrong, "audit")
        for at, observation in enumerate(seen)
    ]


def test_traffic_and_labels_become_figures_of_the_accuracy(bundle: Bundle) -> None:
    registry, observer = CollectorRegistry(), DriftObserver(bundle)
    registry.register(DriftCollector(lambda: observer))
    watch(observer, observations(bundle, ordinary(60)))
    for labelled in labels_of(bundle, 60):
        assert observer.label(labelled) is None
    accuracy = observer.status().accuracy
    assert accuracy is not None
    assert (accuracy.window_rows, accuracy.labels, accuracy.floor) == (60, 60, 0.85)

    def value(name: str, **labels: str) -> float:
        found = registry.get_sample_value(f"edgeloop_{name}", {"model": "tiny", **labels})
        assert found is not None
        return found

    assert value("estimated_accuracy_ratio", method="cbpe") > 0.9
    assert value("estimated_accuracy_ratio", method="anchored") > 0.9
    assert value("labelled_accuracy_ratio", bound="estimate") == 1.0
    assert 0.8 < value("labelled_accuracy_ratio", bound="lower") < 1.0
    assert value("accuracy_floor_ratio") == 0.85
    assert upper_bound(observer) == 1.0
    assert 0.0 < value("drift_evidence_ratio", detector="errors", slice="all") < 0.6
    assert not accuracy.estimate_below_floor


def test_labels_that_show_errors_raise_one_verdict_and_pull_the_bound_below_the_floor(
    bundle: Bundle,
) -> None:
    observer = DriftObserver(bundle)
    assert upper_bound(observer) is None
    found = [observer.label(labelled) for labelled in labels_of(bundle, 60, wrong=True)]
    (verdict,) = [one for one in found if one is not None]
    assert verdict.detector == "errors"
    assert verdict.log_evidence >= verdict.threshold
    assert verdict.bundle_digest == bundle.digest
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    bound = upper_bound(observer)
    assert bound is not None
    assert bound < 0.2
    again = DriftObserver(bundle)
    again.restore(observer.state())
    assert again.status() == observer.status()
    assert again.state() == observer.state()


def test_a_model_of_vectors_takes_labels_for_nothing(tmp_path: Path) -> None:
    embedder = monitored.make_bundle(tmp_path, rows=60, task="text-embedding")
    observer = DriftObserver(embedder)
    assert observer.label(Labelled("a", 1, np.ones(1), False)) is None
    assert observer.status().accuracy is None
    assert upper_bound(observer) is None
    again = DriftObserver(embedder)
    again.restore(observer.state())

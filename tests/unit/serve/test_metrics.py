"""Names, labels and series of the server's metrics."""

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edgeloop.bundle import Bundle
from edgeloop.naming import NAMESPACE
from serve.metrics import CLASS_LIMIT, OTHER, REJECTIONS, ROUTE_CODES, SECONDS, ServeMetrics

ALLOWED_LABELS = {"model", "variant", "route", "code", "class", "reason", "version", "digest"}
ALLOWED_LABELS |= {"stage", "outcome", "question", "source"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def with_labels(bundle: Bundle, digest: str, labels: tuple[str, ...]) -> Bundle:
    manifest = bundle.manifest.model_copy(update={"labels": labels})
    return replace(bundle, manifest=manifest, digest=digest)


def test_names_and_labels_follow_the_rules(
    registry: CollectorRegistry, tiny_bundle: Bundle
) -> None:
    ServeMetrics(registry, "tiny").show_bundle(tiny_bundle)
    samples = [sample for family in registry.collect() for sample in family.samples]
    assert samples
    for sample in samples:
        assert sample.name.startswith(f"{NAMESPACE}_")
        assert set(sample.labels) - {"le"} <= ALLOWED_LABELS
        assert sample.labels["model"] == "tiny"


def test_every_series_is_there_at_zero(registry: CollectorRegistry, tiny_bundle: Bundle) -> None:
    ServeMetrics(registry, "tiny").show_bundle(tiny_bundle)
    text = generate_latest(registry).decode()
    families = {
        family.name: family
        for family in text_string_to_metric_families(text)
        if not family.name.endswith("_created")
    }
    for name, family in families.items():
        assert family.samples, name
        expected = 1.0 if name == "edgeloop_model_info" else 0.0
        assert {sample.value for sample in family.samples} == {expected}, name
    classes = {s.labels["class"] for s in families["edgeloop_predictions"].samples}
    assert classes == set(tiny_bundle.manifest.labels)
    reasons = {s.labels["reason"] for s in families["edgeloop_rejected"].samples}
    assert reasons == set(REJECTIONS)


def test_answers_add_no_series(registry: CollectorRegistry) -> None:
    metrics = ServeMetrics(registry, "tiny")
    before = generate_latest(registry).count(b"\n")
    for route, codes in ROUTE_CODES.items():
        for code in codes:
            metrics.answered(route, code, 0.003)
    assert generate_latest(registry).count(b"\n") == before
    labels = {"model": "tiny", "variant": "stable", "route": "/predict"}
    bucket = {**labels, "le": "0.005"}
    answered = len(ROUTE_CODES["/predict"])
    assert registry.get_sample_value("edgeloop_request_duration_seconds_bucket", bucket) == answered


def test_buckets_suit_millisecond_models() -> None:
    assert (SECONDS[0], SECONDS[-1]) == (0.0005, 10.0)
    assert list(SECONDS) == sorted(SECONDS)


def test_only_the_served_bundle_has_an_info_series(
    registry: CollectorRegistry, tiny_bundle: Bundle
) -> None:
    metrics = ServeMetrics(registry, "tiny")
    metrics.show_bundle(tiny_bundle)
    metrics.show_bundle(with_labels(tiny_bundle, "other-digest", ("new",)))
    (family,) = [f for f in registry.collect() if f.name == "edgeloop_model_info"]
    assert [sample.labels["digest"] for sample in family.samples] == ["other-digest"]


def test_classes_are_bounded_over_all_bundles(
    registry: CollectorRegistry, tiny_bundle: Bundle
) -> None:
    metrics = ServeMetrics(registry, "tiny")
    for swap in range(4):
        labels = tuple(f"class {swap} {i}" for i in range(CLASS_LIMIT // 2 + 1))
        metrics.show_bundle(with_labels(tiny_bundle, f"digest {swap}", labels))
    (family,) = [f for f in registry.collect() if f.name == "edgeloop_predictions"]
    classes = {sample.labels["class"] for sample in family.samples}
    assert len(classes) == CLASS_LIMIT + 1
    assert OTHER in classes

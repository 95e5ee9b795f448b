"""Label-free estimates put right by labels drawn at random: the interval covers under shift."""

import numpy as np
import pytest

from monitor.accuracy.anchored import LEAST_LABELS, Traffic, anchored
from monitor.accuracy.fit import AccuracyFit, Bools, Floats
from tests.classifiers import draw

STREAMS = 800


def traffic_of(confidence: Floats) -> Traffic:
    return Traffic(float(confidence.mean()), float(confidence.var(ddof=1)), len(confidence))


def confidence_of(fit: AccuracyFit, probabilities: Floats) -> Floats:
    top = np.clip(probabilities.max(axis=1), 1e-6, 1.0 - 1e-6)
    logits = fit.slope * np.log(top / (1.0 - top)) + fit.intercept
    c: Floats = 1.0 / (1.0 + np.exp(-logits))
    return c


def concept_shift(right: Bools, rng: np.random.Generator) -> Bools:
    """A fifth of the right answers are wrong ones now, whatever the confidence."""
    return right & (rng.random(len(right)) > 0.2)


@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("concept", [False, True])
def test_the_interval_covers_the_accuracy_under_shift(
    accuracy_fit: AccuracyFit, shift: float, concept: bool
) -> None:
    """1,000 rows of traffic of which 120 are labelled, 800 times over: covariate shift, concept
    shift, both and neither."""
    rng = np.random.default_rng([31, int(shift), concept])
    everything = draw(100_000, rng, shift=shift)[1]
    truth = float((concept_shift(everything, rng) if concept else everything).mean())
    covered = 0
    for _ in range(STREAMS):
        probabilities, right = draw(1_000, rng, shift=shift)
        right = concept_shift(right, rng) if concept else right
        confidence = confidence_of(accuracy_fit, probabilities)
        drawn = rng.choice(1_000, size=120, replace=False)
        found = anchored(
            right[drawn].astype(float), confidence[drawn], np.ones(120), traffic_of(confidence)
        )
        assert found is not None
        covered += found.lower <= truth <= found.upper
    assert covered / STREAMS >= 0.93


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_rows_drawn_unequally_count_by_their_weight(
    accuracy_fit: AccuracyFit, shift: float
) -> None:
    """As the capture draws: a share of all, and of unsure answers four times as many more."""
    rng = np.random.default_rng([32, int(shift)])
    truth = float(draw(100_000, rng, shift=shift)[1].mean())
    covered, estimates, plain = 0, [], []
    for _ in range(STREAMS):
        probabilities, right = draw(2_000, rng, shift=shift)
        confidence = confidence_of(accuracy_fit, probabilities)
        inclusion = np.where(probabilities.max(axis=1) < 0.8, 0.25, 0.06)
        drawn = rng.random(2_000) < inclusion
        y = right[drawn].astype(float)
        found = anchored(y, confidence[drawn], 1.0 / inclusion[drawn], traffic_of(confidence))
        assert found is not None
        covered += found.lower <= truth <= found.upper
        estimates.append(found.estimate)
        plain.append(y.mean())
    assert covered / STREAMS >= 0.93
    assert abs(np.mean(estimates) - truth) < 0.01
    assert abs(np.mean(plain) - truth) > 0.02, "without weights it is far off"


def test_a_confidence_that_says_something_narrows_the_interval(accuracy_fit: AccuracyFit) -> None:
    rng = np.random.default_rng(33)
    probabilities, right = draw(1_000, rng, shift=2.0)
    confidence = confidence_of(accuracy_fit, probabilities)
    y, f = right[:200].astype(float), confidence[:200]
    helped = anchored(y, f, np.ones(200), traffic_of(confidence))
    alone = anchored(y, rng.permutation(f), np.ones(200), traffic_of(confidence))
    assert helped is not None
    assert alone is not None
    assert helped.upper - helped.lower < 0.95 * (alone.upper - alone.lower)
    spread = 2 * 1.96 * np.sqrt(y.var(ddof=1) / 200)
    assert alone.upper - alone.lower <= spread * 1.01, "a worthless one costs next to nothing"


def test_weights_all_alike_are_no_weights(accuracy_fit: AccuracyFit) -> None:
    probabilities, right = draw(200, np.random.default_rng(34))
    confidence = confidence_of(accuracy_fit, probabilities)
    y, f, traffic = right[:100].astype(float), confidence[:100], traffic_of(confidence)
    found = [anchored(y, f, np.full(100, weight), traffic) for weight in (1.0, 7.0)]
    one, seven = (np.array([b.lower, b.estimate, b.upper]) for b in found if b is not None)
    assert one == pytest.approx(seven)


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_labels_that_all_agree_prove_no_certainty(right: float) -> None:
    rng = np.random.default_rng(35)
    f = rng.uniform(0.5, 1.0, size=100)
    found = anchored(np.full(100, right), f, np.ones(100), traffic_of(f))
    assert found is not None
    assert found.estimate == pytest.approx(right)
    assert found.upper - found.lower == pytest.approx(0.03), "the rule of three"
    assert 0.0 <= found.lower <= found.upper <= 1.0


def test_a_confidence_that_never_differs_is_no_help_and_no_harm() -> None:
    y = (np.arange(100) % 4 > 0).astype(float)
    found = anchored(y, np.full(100, 0.9), np.ones(100), Traffic(0.5, 0.0, 1_000))
    assert found is not None
    assert found.estimate == pytest.approx(0.75)


def test_too_few_labels_or_no_traffic_give_no_interval() -> None:
    few = np.ones(LEAST_LABELS - 1)
    assert anchored(few, few, few, Traffic(0.9, 0.01, 100)) is None
    enough = np.ones(LEAST_LABELS)
    assert anchored(enough, enough, enough, Traffic(float("nan"), float("nan"), 1)) is None

"""The sample: kept with the probability that its rows say, so that weighted sums are unbiased."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.capture.sampling import Rule, Sampler

SHARES = st.floats(0.0, 1.0)
# Of a test that a right sampler fails once in 15,000 times, at a fixed seed never.
SIGMAS = 4.0


def sampler(share: float, below: float, unsure_share: float, seed: int = 0) -> Sampler:
    return Sampler(share, below, unsure_share, random.Random(seed))


@pytest.mark.parametrize(
    ("share", "unsure_share", "score"),
    [(0.1, 0.3, 0.2), (0.1, 0.3, 0.9), (0.0, 0.5, 0.2), (0.2, 0.0, 0.2), (0.7, 0.7, 0.2)],
)
def test_a_text_is_kept_as_often_as_its_row_says(
    share: float, unsure_share: float, score: float
) -> None:
    draws, trials = sampler(share, 0.5, unsure_share), 40_000
    kept = [draw for _ in range(trials) if (draw := draws.draw(score)) is not None]
    (probability,) = {draw.inclusion_probability for draw in kept}
    spread = math.sqrt(probability * (1.0 - probability) / trials)
    assert abs(len(kept) / trials - probability) < SIGMAS * spread


def test_the_rules_are_told_apart() -> None:
    draws, trials = sampler(0.3, 0.5, 0.4), 40_000
    said = Counter(draw.rule for _ in range(trials) if (draw := draws.draw(0.1)) is not None)
    expected: dict[Rule, float] = {"uniform": 0.18, "low_confidence": 0.28, "both": 0.12}
    for rule, probability in expected.items():
        spread = math.sqrt(probability * (1.0 - probability) / trials)
        assert abs(said[rule] / trials - probability) < SIGMAS * spread


def test_weighted_sums_are_unbiased_for_all_traffic() -> None:
    """Horvitz-Thompson: over many samples of one traffic the estimates' mean is the truth, while
    the plain share of the sample is far from it."""
    traffic = random.Random(1)
    scores = [traffic.betavariate(4, 2) for _ in range(400)]
    wrong = [score < 0.4 for score in scores]  # the unsure ones are wrong: what a team looks for
    truth, estimates, naive = sum(wrong), [], []
    draws = sampler(0.05, 0.5, 0.3)
    for _ in range(3000):
        rows = [
            (draw.inclusion_probability, is_wrong)
            for score, is_wrong in zip(scores, wrong, strict=True)
            if (draw := draws.draw(score)) is not None
        ]
        estimates.append(sum(is_wrong / probability for probability, is_wrong in rows))
        naive.append(len(scores) * sum(w for _, w in rows) / max(1, len(rows)))
    mean = sum(estimates) / len(estimates)
    variance = sum((estimate - mean) ** 2 for estimate in estimates) / (len(estimates) - 1)
    assert abs(mean - truth) < SIGMAS * math.sqrt(variance / len(estimates))
    assert sum(naive) / len(naive) > 1.5 * truth


@given(share=SHARES, below=SHARES, unsure_share=SHARES, score=SHARES)
def test_the_probability_is_one_and_never_nought(
    share: float, below: float, unsure_share: float, score: float
) -> None:
    draws = sampler(share, below, unsure_share)
    expected = share if score >= below else 1.0 - (1.0 - share) * (1.0 - unsure_share)
    for _ in range(20):
        draw = draws.draw(score)
        if draw is not None:
            assert draw.inclusion_probability == expected > 0.0
            assert score < below or draw.rule == "uniform"
        else:
            assert expected < 1.0

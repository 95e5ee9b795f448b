"""The thresholds of a replay: the reference's own, or those of another interval on trial."""

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.family import Family, family_target, primary_target
from monitor.fit import Fitted
from monitor.thresholds import trial_threshold
from tests import traffic

PROMISED = 2_000


@pytest.fixture(scope="module")
def family() -> Family:
    scales, _ = traffic.fit(traffic.draw(600, np.random.default_rng(0)))
    return Family(
        scales=tuple(scales),
        threshold=12.0,
        promised=PROMISED,
        target_run_length=family_target(PROMISED),
        verified_run_length=11_000.0,
        armed=True,
        main_script="LATIN",
        centre=b"",
        salt=b"",
        ngrams={},
        clusters=(),
    )


def fit_for(fitted: Fitted, armed: bool = True, advisory: bool = False) -> Fitted:
    target = primary_target(PROMISED)
    return replace(
        fitted,
        target_run_length=target,
        armed=armed,
        advisory=advisory,
        shorter_thresholds=(),  # as of bundles that have none
    )


def test_an_armed_reference_alarms_at_its_own_thresholds(fitted: Fitted, family: Family) -> None:
    for asked in (None, PROMISED):
        trial = trial_threshold(fit_for(fitted), family, asked)
        assert (trial.limits.primary, trial.limits.secondary) == (fitted.threshold, 12.0)
        assert trial.limits.primary_alarms
        assert trial.limits.secondary_alarms
        assert (trial.target_run_length, trial.source) == (PROMISED, "the reference's own")


SHORTER = ((250.0, 4.0), (500.0, 4.4), (1_000.0, 5.0), (2_500.0, 6.0))


def simulated(fitted: Fitted, family: Family) -> tuple[Fitted, Family]:
    """With thresholds for shorter intervals; the secondary detectors' up to a fifth."""
    primary = replace(fit_for(fitted), threshold=6.0, shorter_thresholds=SHORTER)
    own = ((500.0, 8.0), (1_000.0, 9.0), (2_000.0, 10.0))
    return primary, msgspec.structs.replace(family, shorter_thresholds=own)


@given(asked=st.integers(2, 10_000_000), more=st.integers(0, 1_000_000))
def test_a_longer_interval_never_has_lower_thresholds(
    fitted: Fitted, family: Family, asked: int, more: int
) -> None:
    for known in (simulated(fitted, family), (fit_for(fitted), family)):
        shorter = trial_threshold(*known, asked).limits
        longer = trial_threshold(*known, asked + more).limits
        assert 0.0 <= shorter.primary <= longer.primary + 1e-9
        assert 0.0 <= shorter.secondary <= longer.secondary + 1e-9


def test_simulated_thresholds_are_taken_and_read_between(fitted: Fitted, family: Family) -> None:
    known = simulated(fitted, family)
    exact = trial_threshold(*known, 400)  # 500 for the primary, 2,000 for the others
    assert exact.limits.primary == pytest.approx(4.4)
    assert exact.limits.secondary == pytest.approx(10.0)
    assert "interpolated between simulated ones, up to those for 2000 rows" in exact.source
    between = trial_threshold(*known, 800).limits
    assert between.primary == pytest.approx(5.0)
    assert 10.0 < between.secondary < 12.0
    below = trial_threshold(*known, 20)
    assert below.limits.primary < 4.0
    assert "not simulated" in below.source


def test_beyond_what_was_simulated_the_logarithm_counts(fitted: Fitted, family: Family) -> None:
    longer = trial_threshold(*simulated(fitted, family), 10 * PROMISED)
    assert longer.limits.primary == pytest.approx(6.0 + math.log(10.0))
    assert longer.limits.secondary == pytest.approx(12.0 + math.log(10.0))
    assert "not simulated" in longer.source


def test_what_is_not_armed_alarms_only_as_advice_or_on_trial(
    fitted: Fitted, family: Family
) -> None:
    unarmed = msgspec.structs.replace(family, armed=False)
    off = trial_threshold(fit_for(fitted, armed=False), unarmed, None)
    assert (off.limits.primary_alarms, off.limits.secondary_alarms) == (False, False)
    assert off.source == "not armed"
    advice = trial_threshold(fit_for(fitted, armed=False, advisory=True), unarmed, None)
    assert (advice.limits.primary_alarms, advice.limits.secondary_alarms) == (True, True)
    assert advice.source == "advice only"
    tried = trial_threshold(fit_for(fitted, armed=False), unarmed, PROMISED)
    assert (tried.limits.primary_alarms, tried.limits.secondary_alarms) == (True, True)
    assert "no interval is promised" in tried.source


@pytest.mark.parametrize("asked", [None, PROMISED, 50_000])
def test_secondary_detectors_that_broke_their_promise_stay_silent(
    fitted: Fitted, family: Family, asked: int | None
) -> None:
    unarmed = msgspec.structs.replace(family, armed=False)
    trial = trial_threshold(fit_for(fitted), unarmed, asked)
    assert (trial.limits.primary_alarms, trial.limits.secondary_alarms) == (True, False)
    assert trial.source.endswith("; the secondary detectors are not armed")

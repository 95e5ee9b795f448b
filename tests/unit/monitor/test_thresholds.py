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
    return replace(fitted, target_run_length=target, armed=armed, advisory=advisory)


def test_an_armed_reference_alarms_at_its_own_thresholds(fitted: Fitted, family: Family) -> None:
    for asked in (None, PROMISED):
        trial = trial_threshold(fit_for(fitted), family, asked)
        assert (trial.limits.primary, trial.limits.secondary) == (fitted.threshold, 12.0)
        assert trial.limits.primary_alarms
        assert trial.limits.secondary_alarms
        assert (trial.target_run_length, trial.source) == (PROMISED, "the reference's own")


@given(asked=st.integers(2, 10_000_000))
def test_another_interval_moves_both_by_its_logarithm(
    fitted: Fitted, family: Family, asked: int
) -> None:
    """But for the rounding of the shares of a small interval."""
    known = fit_for(fitted)
    limits = trial_threshold(known, family, asked).limits
    moved = math.log(asked / PROMISED)
    expected = max(known.threshold + moved, 0.0)
    assert limits.primary == pytest.approx(expected, abs=0.5 if asked < 100 else 0.01)
    assert limits.secondary == pytest.approx(max(12.0 + moved, 0.0), abs=0.01)


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

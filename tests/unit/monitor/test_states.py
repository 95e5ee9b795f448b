"""Where a model stands, and what no sequence of rows may ever do to that."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.states import (
    HYSTERESIS,
    LEAST_QUIET_ROWS,
    PATIENCE,
    QUIET_RATIO,
    STATES,
    Health,
    Seen,
    State,
    next_health,
    proven_harm,
)

QUIET = Seen(alarm=False, evidence_ratio=0.4)
LOUD = Seen(alarm=False, evidence_ratio=0.9)
ALARM = Seen(alarm=True, evidence_ratio=1.1, rows_since_onset=30)

harms = st.sampled_from([True, False, None])
sights = st.builds(
    Seen,
    alarm=st.booleans(),
    evidence_ratio=st.floats(0.0, 3.0),
    rows_since_onset=st.integers(0, 400),
)


def after(health: Health, rows: list[Seen], harm: bool | None = None) -> Health:
    for row in rows:
        health = next_health(health, row, harm)
    return health


def test_an_alarm_makes_a_model_suspect() -> None:
    assert next_health(Health(), ALARM, None).state == "suspect"
    assert after(Health(), [QUIET, LOUD, QUIET]).state == "ok"


@pytest.mark.parametrize("state", STATES)
def test_proven_harm_is_harm_from_every_state(state: State) -> None:
    assert next_health(Health(state), QUIET, True).state == "harmful"
    assert next_health(Health(state), ALARM, True).state == "harmful"


def test_quiet_traffic_recovers_in_two_steps() -> None:
    suspect = next_health(Health(), ALARM, None)
    assert suspect.needed_rows == LEAST_QUIET_ROWS
    almost = after(suspect, [QUIET] * (LEAST_QUIET_ROWS - 1))
    assert almost.state == "suspect"
    recovering = next_health(almost, QUIET, None)
    assert (recovering.state, recovering.quiet_rows) == ("recovering", 0)
    assert after(recovering, [QUIET] * (LEAST_QUIET_ROWS - 1)).state == "recovering"
    assert after(recovering, [QUIET] * LEAST_QUIET_ROWS).state == "ok"


def test_evidence_above_the_part_begins_the_quiet_again() -> None:
    suspect = next_health(Health(), ALARM, None)
    almost = after(suspect, [QUIET] * (LEAST_QUIET_ROWS - 1))
    assert next_health(almost, LOUD, None) == after(suspect, [LOUD])
    assert next_health(almost, Seen(False, QUIET_RATIO), None).quiet_rows == 0


def test_a_slow_drift_must_be_quiet_for_longer() -> None:
    slow = next_health(Health(), Seen(True, 1.0, rows_since_onset=700), None)
    assert slow.needed_rows == PATIENCE * 700
    assert after(slow, [QUIET] * LEAST_QUIET_ROWS).state == "suspect"
    assert next_health(slow, Seen(True, 1.0), None).needed_rows == PATIENCE * 700


def test_an_alarm_while_recovering_is_a_new_suspicion() -> None:
    assert next_health(Health("recovering", 50), ALARM, None).state == "suspect"


def test_harm_that_nobody_measures_any_more_ends_with_the_drift_and_not_before() -> None:
    harmful = Health("harmful")
    assert after(harmful, [LOUD] * 1_000).state == "harmful"
    assert next_health(harmful, ALARM, None).state == "harmful"
    assert after(harmful, [QUIET] * LEAST_QUIET_ROWS).state == "recovering"


def test_harm_that_is_disproven_leaves_the_suspicion() -> None:
    assert next_health(Health("harmful"), LOUD, False).state == "suspect"
    assert after(Health("harmful"), [QUIET] * 5_000, harm=True).state == "harmful"


def test_an_accuracy_about_the_floor_changes_nothing() -> None:
    assert proven_harm(0.84, 0.85) is True
    assert proven_harm(0.85, 0.85) is None
    assert proven_harm(0.85 + 0.9 * HYSTERESIS, 0.85) is None
    assert proven_harm(0.87, 0.85) is False
    assert proven_harm(None, 0.85) is None


@given(st.lists(st.tuples(sights, harms), max_size=60), st.sampled_from(STATES))
def test_no_rows_lead_out_of_the_rules(rows: list[tuple[Seen, bool | None]], start: State) -> None:
    health = Health(start)
    for seen, harm in rows:
        before, health = health, next_health(health, seen, harm)
        assert health.state in STATES
        assert (health.state == "harmful") >= (harm is True)
        assert health.quiet_rows == 0 or not seen.alarm
        if before.state == "ok" and not seen.alarm and not harm:
            assert health.state == "ok"
        if health.state == "ok" and before.state != "ok":
            assert before.state == "recovering"
        if health.state == "recovering" and before.state != "recovering":
            assert before.state in ("suspect", "harmful")


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(sights, harms), max_size=40))
def test_whatever_came_before_quiet_traffic_leads_to_ok(
    rows: list[tuple[Seen, bool | None]],
) -> None:
    health = Health()
    for seen, harm in rows:
        health = next_health(health, seen, harm)
    quiet = [QUIET] * (2 * max(health.needed_rows, LEAST_QUIET_ROWS) + 2)
    assert after(health, quiet, harm=None).state == "ok"

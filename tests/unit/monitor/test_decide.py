"""Every rule of the decision, and what no state may ever lead to."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.decide import LoopState, binomial_upper_bound, decide, schedule_due

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HARMED = LoopState(
    model="tickets",
    now=NOW,
    alarms=1,
    new_labels=240,
    labels_per_round=240,
    labelled_correct=120,
    unknown_classes=(),
    accuracy_floor=0.85,
    last_training_finished=NOW - timedelta(days=3),
    cooldown_hours=6.0,
    scheduled=False,
    trained_already=False,
)
HOUR = timedelta(hours=1)

RULES = [
    ({}, "retrain", "accuracy 0.500 on 240 labelled rows, at most 0.555"),
    ({"alarms": 0}, "wait", "nothing to do"),
    ({"new_labels": 37}, "label", "37 of 240 new labels are there: label 203 more rows"),
    ({"new_labels": 37, "alarms": 0, "scheduled": True}, "wait", "needs 203 more"),
    ({"trained_already": True}, "wait", "exactly this data"),
    ({"last_training_finished": NOW - 2 * HOUR}, "wait", "4.0 h of cooldown are left"),
    ({"last_training_finished": NOW - 6 * HOUR}, "retrain", "harm is proven"),
    ({"last_training_finished": None}, "retrain", "harm is proven"),
    ({"labelled_correct": 230}, "wait", "drift without harm does not train"),
    # Below the floor, but so few rows may come from a model that is not.
    ({"labelled_correct": 196, "new_labels": 240}, "wait", "0.817 on 240 labelled rows"),
    ({"labelled_correct": 230, "unknown_classes": ("gas", "trade_in")}, "retrain", "gas, trade_in"),
    ({"labelled_correct": None}, "wait", "harm is not proven"),
    ({"labelled_correct": None, "scheduled": True}, "retrain", "is not known"),
    ({"labelled_correct": 230, "scheduled": True}, "retrain", "the schedule asks for it"),
    ({"alarms": 0, "scheduled": True, "labelled_correct": 230}, "retrain", "no harm is proven"),
]


@pytest.mark.parametrize(("change", "action", "reason"), RULES)
def test_each_rule_decides_with_its_number(
    change: dict[str, object], action: str, reason: str
) -> None:
    decision = decide(replace(HARMED, **change))  # type: ignore[arg-type]
    assert decision.action == action
    assert reason in " ".join(decision.reasons)


def test_the_decision_carries_its_figures() -> None:
    decision = decide(HARMED)
    assert decision.model == "tickets"
    assert datetime.fromisoformat(decision.at) == NOW
    assert decision.reasons[0] == ("drift alarms since the deployment: 1, no training is scheduled")
    assert decision.figures["labelled_accuracy"] == 0.5
    assert decision.figures["labelled_accuracy_upper_bound"] == pytest.approx(0.555, abs=0.001)
    assert decision.figures["hours_since_training"] == 72.0
    assert decision.figures["new_labels"] == 240.0


@st.composite
def states(draw: st.DrawFn) -> LoopState:
    labels = draw(st.integers(0, 2000))
    moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
    return LoopState(
        model="m",
        now=draw(moments),
        alarms=draw(st.integers(0, 5)),
        new_labels=labels,
        labels_per_round=draw(st.integers(1, 2000)),
        labelled_correct=draw(st.none() | st.integers(0, labels)),
        unknown_classes=draw(st.just(()) | st.just(("new",))),
        accuracy_floor=draw(st.floats(0.01, 1.0)),
        last_training_finished=draw(st.none() | moments),
        cooldown_hours=draw(st.floats(0.0, 1000.0)),
        scheduled=draw(st.booleans()),
        trained_already=draw(st.booleans()),
    )


@given(states())
@settings(deadline=None)
def test_no_state_is_without_a_decision_and_none_trains_when_it_must_not(state: LoopState) -> None:
    decision = decide(state)
    assert decision.reasons
    assert all(math.isfinite(figure) for figure in decision.figures.values())
    if decision.action != "retrain":
        return
    assert state.alarms or state.scheduled
    assert not state.trained_already
    assert state.new_labels >= state.labels_per_round
    if state.last_training_finished is not None:
        cooled = state.last_training_finished + timedelta(hours=state.cooldown_hours)
        assert state.now >= cooled


@pytest.mark.parametrize(
    ("successes", "rows", "bound"),
    # Clopper and Pearson; the first two have closed forms, the others are beta quantiles.
    [
        (0, 20, 1 - 0.05 ** (1 / 20)),
        (19, 20, 0.95 ** (1 / 20)),
        (5, 10, 0.777559),
        (90, 100, 0.944737),
    ],
)
def test_the_binomial_bound_is_exact(successes: int, rows: int, bound: float) -> None:
    assert binomial_upper_bound(successes, rows) == pytest.approx(bound, abs=1e-6)


@given(st.integers(1, 3000), st.data())
@settings(deadline=None)
def test_the_binomial_bound_lies_between_the_share_and_one(rows: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, rows))
    assert successes / rows < binomial_upper_bound(successes, rows) <= 1.0 or successes == rows


@pytest.mark.parametrize(
    ("since", "due"),
    [
        (datetime(2026, 11, 21, 12, tzinfo=UTC), True),
        (datetime(2026, 11, 22, 3, tzinfo=UTC), False),
        (datetime(2026, 11, 22, 12, tzinfo=UTC), False),
        (datetime(2027, 1, 1, tzinfo=UTC), False),  # the clock was set back
    ],
)
def test_a_schedule_is_due_once_per_time(since: datetime, due: bool) -> None:
    assert schedule_due("0 3 * * 0", since, NOW) is due

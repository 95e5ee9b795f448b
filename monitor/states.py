"""Where a model stands: OK -> SUSPECT -> HARMFUL -> RECOVERING -> OK. A pure state machine.

SUSPECT at an alarm: the traffic is another one, whether that hurts is not known. HARMFUL where the
accuracy is proven to lie below the floor, from any state. The detectors start again after an alarm;
where the evidence then stays low for twice as long as the drift had needed to raise it, the model
is RECOVERING, and after as long a time again OK.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

State = Literal["ok", "suspect", "harmful", "recovering"]
STATES: tuple[State, ...] = get_args(State)

# Evidence above this part of its threshold is no quiet; without drift it is seldom reached.
QUIET_RATIO = 0.75
LEAST_QUIET_ROWS = 200
# How many times as long as the drift had taken to raise the alarm it must be quiet.
PATIENCE = 2
# An accuracy this much above the floor, at its upper bound, is no longer proven to be too low.
HYSTERESIS = 0.01


@dataclass(frozen=True)
class Health:
    """A state; for how many rows in a row it has been quiet, and how many are needed to leave."""

    state: State = "ok"
    quiet_rows: int = 0
    needed_rows: int = LEAST_QUIET_ROWS


@dataclass(frozen=True)
class Seen:
    """What a row brought: was a threshold passed (since the last start), the highest evidence over
    its threshold of any detector, and rows from the onset to now (0: not estimated)."""

    alarm: bool
    evidence_ratio: float
    rows_since_onset: int = 0


def proven_harm(accuracy_upper_bound: float | None, floor: float) -> bool | None:
    """Is the accuracy too low? True: its upper bound lies below the floor. False: above it by
    HYSTERESIS. None: nobody knows, or it lies between."""
    if accuracy_upper_bound is None:
        return None
    if accuracy_upper_bound < floor:
        return True
    return False if accuracy_upper_bound >= floor + HYSTERESIS else None


def next_health(health: Health, seen: Seen, harm: bool | None) -> Health:
    """The state after a row."""
    counted = _count(health, seen)
    if harm:
        return replace(counted, state="harmful")
    if health.state == "harmful" and harm is False:
        return replace(counted, state="suspect")
    if seen.alarm:
        return counted if health.state == "harmful" else replace(counted, state="suspect")
    if health.state == "ok" or counted.quiet_rows < counted.needed_rows:
        return counted
    return replace(counted, state=_after(health.state), quiet_rows=0)


def _count(health: Health, seen: Seen) -> Health:
    if seen.alarm:
        needed = health.needed_rows
        if seen.rows_since_onset:
            needed = max(LEAST_QUIET_ROWS, PATIENCE * seen.rows_since_onset)
        return replace(health, quiet_rows=0, needed_rows=needed)
    quiet = health.quiet_rows + 1 if seen.evidence_ratio < QUIET_RATIO else 0
    return replace(health, quiet_rows=quiet)


def _after(state: State) -> State:
    return "ok" if state == "recovering" else "recovering"

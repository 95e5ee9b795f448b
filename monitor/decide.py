"""What to do about a model: a pure function of the ledger's state, every reason with its number.

Drift alone never trains: drift asks for labels, labels prove harm, harm trains. A schedule trains
without harm, but not without new labels.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim

from edgeloop.records import Decision, LedgerAction

CONFIDENCE = 0.95
BISECTIONS = 60

Step = tuple[LedgerAction, str]


@dataclass(frozen=True)
class LoopState:
    """All that the decision depends on.

    `alarms`: drift alarms of the bundle that is deployed. `new_labels`: labelled rows that no
    training has seen; `labelled_correct` of them the deployed model answers rightly (None: not
    scored), `unknown_classes` are labels among them that it does not know. `scheduled`: a time of
    the schedule has come. `trained_already`: a training on exactly this data was finished.
    """

    model: str
    now: datetime
    alarms: int
    new_labels: int
    labels_per_round: int
    labelled_correct: int | None
    unknown_classes: tuple[str, ...]
    accuracy_floor: float
    last_training_finished: datetime | None
    cooldown_hours: float
    scheduled: bool
    trained_already: bool


def decide(state: LoopState) -> Decision:
    """wait, label or retrain; never retrain within the cooldown or on data already trained on."""
    action, *reasons = _hold(state) or _harm(state)
    return Decision(
        model=state.model,
        at=state.now.isoformat(timespec="microseconds"),
        action=action,
        reasons=(_trigger(state), *reasons),
        figures=_figures(state),
    )


def schedule_due(cron: str, since: datetime, now: datetime) -> bool:
    """Whether a time of the cron expression lies after `since` and not after `now`."""
    return next(CronSim(cron, since)) <= now


def binomial_upper_bound(successes: int, rows: int, confidence: float = CONFIDENCE) -> float:
    """One-sided exact upper bound of a proportion (Clopper and Pearson 1934)."""
    if successes >= rows:
        return 1.0
    low, high = successes / rows, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        probable = _binomial_cdf(successes, rows, middle) > 1.0 - confidence
        low, high = (middle, high) if probable else (low, middle)
    return high


def _binomial_cdf(successes: int, rows: int, p: float) -> float:
    """P(X <= successes) for 0 < p < 1, summed in logs: a term alone may underflow."""
    log_p, log_q, whole = math.log(p), math.log1p(-p), math.lgamma(rows + 1)
    return math.fsum(
        math.exp(
            whole - math.lgamma(k + 1) - math.lgamma(rows - k + 1) + k * log_p + (rows - k) * log_q
        )
        for k in range(successes + 1)
    )


def _trigger(state: LoopState) -> str:
    scheduled = "a training is scheduled" if state.scheduled else "no training is scheduled"
    return f"drift alarms since the deployment: {state.alarms}, {scheduled}"


def _hold(state: LoopState) -> Step | None:
    """What speaks against training whatever the accuracy; None where nothing does."""
    missing = state.labels_per_round - state.new_labels
    if not state.alarms and not state.scheduled:
        return "wait", "there is nothing to do"
    if missing > 0:
        have = f"{state.new_labels} of {state.labels_per_round} new labels are there"
        if state.alarms:
            return "label", f"{have}: label {missing} more rows of recent traffic"
        return "wait", f"{have}: a scheduled training needs {missing} more"
    if state.trained_already:
        return "wait", "a training on exactly this data was finished already"
    until = _cooldown_until(state)
    if until is not None and state.now < until:
        hours = (until - state.now).total_seconds() / 3600.0
        return "wait", (
            f"the last training finished less than {state.cooldown_hours:g} h ago: "
            f"{hours:.1f} h of cooldown are left"
        )
    return None


def _cooldown_until(state: LoopState) -> datetime | None:
    if state.last_training_finished is None:
        return None
    return state.last_training_finished + timedelta(hours=state.cooldown_hours)


def _harm(state: LoopState) -> Step:
    """Enough labels are there: train where they prove harm, or where it is scheduled anyway."""
    if state.unknown_classes:
        names = ", ".join(state.unknown_classes)
        return "retrain", f"{len(state.unknown_classes)} labelled classes are new: {names}"
    known = _accuracy(state)
    if known is None:
        said = "how the model answers the labelled rows is not known"
        return ("retrain", said) if state.scheduled else ("wait", f"{said}: harm is not proven")
    accuracy, bound = known
    said = (
        f"accuracy {accuracy:.3f} on {state.new_labels} labelled rows, at most {bound:.3f} with "
        f"{100 * CONFIDENCE:g}% confidence, floor {state.accuracy_floor:g}"
    )
    if bound < state.accuracy_floor:
        return "retrain", f"{said}: harm is proven"
    if state.scheduled:
        return "retrain", f"{said}: no harm is proven, the schedule asks for it"
    return "wait", f"{said}: drift without harm does not train"


def _accuracy(state: LoopState) -> tuple[float, float] | None:
    """Accuracy on the labelled rows and its upper bound."""
    if state.labelled_correct is None or state.new_labels < 1:
        return None
    accuracy = state.labelled_correct / state.new_labels
    return accuracy, binomial_upper_bound(state.labelled_correct, state.new_labels)


def _figures(state: LoopState) -> dict[str, float]:
    figures = {
        "alarms": float(state.alarms),
        "new_labels": float(state.new_labels),
        "labels_per_round": float(state.labels_per_round),
        "unknown_classes": float(len(state.unknown_classes)),
        "accuracy_floor": state.accuracy_floor,
        "cooldown_hours": state.cooldown_hours,
        "scheduled": float(state.scheduled),
        "trained_already": float(state.trained_already),
    }
    known = _accuracy(state)
    if known is not None:
        figures["labelled_accuracy"], figures["labelled_accuracy_upper_bound"] = known
    if state.last_training_finished is not None:
        since = state.now - state.last_training_finished
        figures["hours_since_training"] = since.total_seconds() / 3600.0
    return figures

"""Whether a new model has forgotten what the previous one knew: a pure function of which rows each
of them answers rightly.

With `drop` the fall in accuracy on the suite and `bound` its upper confidence bound
(edgeloop.statistics.paired_drop):

    kept        bound <= max_drop
    undecided   drop <= max_drop < bound, and the rows are too few: with as many changed answers, a
                model that has no drop would be called kept in fewer than POWER of all cases
    forgotten   anything else; the run stops

Error rates. A model whose true drop is above max_drop is called kept with a probability of at most
1 - confidence, at every number of rows. A model without any drop is stopped with a probability of
at most 1 - POWER where the rows are enough: of its changed answers each is lost or gained with
probability 1/2, whatever their number. With fewer rows no such promise can be made: undecided lets
pass whatever is within max_drop on the rows themselves, which is about half of the models that are
just at max_drop, and hardly any that is far above it.
That a class fell is said by an exact one-sided McNemar test, with Holm's correction over classes:
where no class fell, any is named with a probability of at most 1 - confidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edgeloop.records import PairedDrop
from edgeloop.records_retention import ClassRetention, RetentionVerdict
from edgeloop.statistics import drop_upper_bound, paired_drop, paired_superiority_p, rows_needed

Right = NDArray[np.bool_]
POWER = 0.8
CLASSES_SAID = 5


@dataclass(frozen=True)
class Judgement:
    """The verdict and what it is made of. Fields as in RetentionRecord."""

    verdict: RetentionVerdict
    reasons: tuple[str, ...]
    drop: PairedDrop | None = None
    rows_needed: int | None = None
    classes: tuple[ClassRetention, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the run goes on."""
        return self.verdict != "forgotten"


def judge(
    before: Right | None,
    after: Right,
    classes: Sequence[tuple[str, ...]],
    max_drop: float,
    confidence: float,
) -> Judgement:
    """`before`, `after`: (rows,), which rows each model answers rightly; `classes`: those of each
    row. Without `before` there is nothing to compare with, and nothing is stopped."""
    if after.size == 0:
        return Judgement("not compared", ("there is no row that was not trained on",))
    if before is None:
        said = f"no model was deployed before: {after.size} rows are answered after training only"
        return Judgement("not compared", (said,), classes=by_class(None, after, classes))
    drop = paired_drop(before, after, confidence)
    found = by_class(before, after, classes, confidence)
    verdict, needed = decide(drop, max_drop)
    reasons = [_overall(drop, verdict, max_drop)]
    if needed is not None:
        reasons.append(f"about {needed} rows needed to tell, the suite has {drop.rows}")
    named = _named(found, fell=verdict == "forgotten")
    if named:
        reasons.append(named)
    return Judgement(verdict, tuple(reasons), drop, needed, found)


def decide(drop: PairedDrop, max_drop: float) -> tuple[RetentionVerdict, int | None]:
    """The verdict by the rule above, and how many rows it takes where these are too few."""
    if drop.upper_bound_ratio <= max_drop:
        return "kept", None
    needed = _missing(drop, max_drop)
    if drop.drop_ratio <= max_drop and needed is not None:
        return "undecided", needed
    return "forgotten", needed


def _missing(drop: PairedDrop, max_drop: float) -> int | None:
    """About how many rows it takes; None where these are enough: the losses that a model without a
    drop has at most in POWER of all cases keep the bound to max_drop."""
    changed = drop.lost + drop.gained
    lost = int(stats.binom.ppf(POWER, changed, 0.5)) if changed else 0
    if drop_upper_bound(lost, changed - lost, drop.rows, drop.confidence) <= max_drop:
        return None
    asked = rows_needed(changed / drop.rows, max_drop, drop.confidence, POWER)
    return max(asked, drop.rows + 1)


def by_class(
    before: Right | None,
    after: Right,
    classes: Sequence[tuple[str, ...]],
    confidence: float = 0.95,
) -> tuple[ClassRetention, ...]:
    """Every class of the rows, sorted; a row counts for each of its classes."""
    rows: dict[str, list[int]] = {}
    for position, names in enumerate(classes):
        for name in names:
            rows.setdefault(name, []).append(position)
    found = [_class(label, before, after, rows[label]) for label in sorted(rows)]
    fallen = _holm([paired_superiority_p(c.gained, c.lost) for c in found], 1.0 - confidence)
    return tuple(
        c.model_copy(update={"forgotten": fell}) for c, fell in zip(found, fallen, strict=True)
    )


def _class(label: str, before: Right | None, after: Right, rows: list[int]) -> ClassRetention:
    new = after[rows]
    old = new if before is None else before[rows]
    return ClassRetention(
        label=label,
        rows=len(rows),
        before=None if before is None else float(old.mean()),
        after=float(new.mean()),
        lost=int(np.sum(old & ~new)),
        gained=int(np.sum(~old & new)),
        forgotten=False,
    )


def _holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses are rejected so that any false rejection has a probability of at most alpha
    (Holm 1979)."""
    rejected = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - rank):
            break
        rejected[i] = True
    return rejected


def _overall(drop: PairedDrop, verdict: RetentionVerdict, max_drop: float) -> str:
    words = {"kept": "passed", "undecided": "undecided", "forgotten": "FAILED"}
    return (
        f"{words[verdict]}: on {drop.rows} rows the accuracy goes from "
        f"{drop.reference_accuracy:.3f} to {drop.candidate_accuracy:.3f}, a drop of "
        f"{drop.drop_ratio:.4f} and at most {drop.upper_bound_ratio:.4f} at "
        f"{100 * drop.confidence:g}% confidence, allowed {max_drop:g}"
    )


def _named(classes: Sequence[ClassRetention], fell: bool) -> str:
    """The classes that are forgotten; where none is for certain but the whole fell, those that
    lost most."""
    lost_most = sorted(classes, key=lambda c: (c.gained - c.lost, c.label))
    named = [c for c in lost_most if c.forgotten]
    word = "forgotten"
    if not named and fell:
        named, word = [c for c in lost_most if c.lost > c.gained], "fell most"
    if not named:
        return ""
    said = [
        f"{c.label} ({c.before:.2f} to {c.after:.2f} on {c.rows} rows)"
        for c in named[:CLASSES_SAID]
    ]
    more = len(named) - len(said)
    return f"{word}: {', '.join(said)}{f' and {more} more' if more else ''}"

"""Which candidates are worth a certificate: decided on the choosing rows, before a judging row is
answered.

A claim that is tested for several candidates and made for the best of them is wrong more often than
its confidence says. So few finalists are named first, and each is then tested on rows that had no
part in naming them, at a confidence that is corrected for their number (Bonferroni): whichever of
them ships, the chance that it does not keep to the budget is at most 1 - confidence.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compress.budget import Figures, Miss, excess_ratio, misses
from compress.evaluate import TIMED_ROWS
from edgeloop.recipe import Budget, Compress
from edgeloop.records import Measurement, PairedDrop
from edgeloop.records_measured import Quality
from edgeloop.statistics import drop_upper_bound, paired_superiority_p

# At which a candidate is given up before all choosing rows are answered.
DROPPED_P = 0.01


@dataclass(frozen=True)
class Screened:
    """A candidate on the choosing rows: which are answered rightly, (rows,), and the figures."""

    right: NDArray[np.bool_]
    measurement: Measurement
    drop: PairedDrop
    quality: Quality


@dataclass(frozen=True)
class Shortlist:
    """The finalists, in the order in which one that passes is taken, and the confidence that each
    of them is tested at; what the others are expected to miss."""

    finalists: tuple[str, ...]
    confidence: float
    expected: dict[str, tuple[Miss, ...]]


PREFERENCES: dict[str, Callable[[Screened], float]] = {
    "size": lambda found: found.measurement.size_bytes,
    "latency": lambda found: found.measurement.latency_p50_ms.value,
    "accuracy": lambda found: -found.drop.candidate_accuracy,
}


def give_up(screened: Mapping[str, Screened], budget: Budget) -> dict[str, str]:
    """Who need not be looked at further, and why: by a part of the choosing rows it loses more than
    the budget allows, or another one is smaller, faster and answers more rows rightly, both beyond
    what chance explains."""
    given_up = {}
    for kind, found in screened.items():
        reason = _hopeless(found.drop, budget) or _dominated(kind, screened)
        if reason is not None:
            given_up[kind] = reason
    return given_up


def _hopeless(drop: PairedDrop, budget: Budget) -> str | None:
    at_least = -drop_upper_bound(drop.gained, drop.lost, drop.rows, 1.0 - DROPPED_P)
    if at_least <= budget.max_accuracy_drop:
        return None
    return (
        f"loses at least {at_least:.4f} of accuracy by the first {drop.rows} choosing rows "
        f"({drop.candidate_accuracy:.3f} against {drop.reference_accuracy:.3f}), "
        f"{budget.max_accuracy_drop:g} is allowed"
    )


def _dominated(kind: str, screened: Mapping[str, Screened]) -> str | None:
    own = screened[kind]
    for other, found in screened.items():
        only_other = int(np.sum(found.right & ~own.right))
        only_own = int(np.sum(~found.right & own.right))
        if (
            found.measurement.size_bytes <= own.measurement.size_bytes
            and found.measurement.latency_p50_ms.high < own.measurement.latency_p50_ms.low
            and paired_superiority_p(lost=only_own, gained=only_other) <= DROPPED_P
        ):
            return f"{other} is smaller, faster and right more often"
    return None


def shortlist(screened: Mapping[str, Screened], compress: Compress, judging_rows: int) -> Shortlist:
    """At most `compress.finalists` of those that may well keep to the budget: the preferred ones,
    and as the last the one that is expected to lose least. Where there are none, the nearest."""
    budget = compress.budget
    preferred = sorted(screened, key=lambda kind: PREFERENCES[compress.prefer](screened[kind]))
    count = min(compress.finalists, len(screened))
    expected = {
        kind: expected_misses(screened[kind], budget, judging_rows, corrected(budget, count))
        for kind in preferred
    }
    hopeful = [
        kind
        for kind in preferred
        if not expected_misses(
            _lucky(screened[kind]), budget, judging_rows, corrected(budget, count)
        )
    ]
    if hopeful:
        count = min(count, len(hopeful))
        safest = min(hopeful, key=lambda kind: _expected_drop(screened[kind].drop, judging_rows))
        finalists = hopeful[:count]
        if safest not in finalists:
            finalists[-1] = safest
    else:
        finalists = sorted(preferred, key=lambda kind: excess_ratio(expected[kind]))[:count]
    return Shortlist(tuple(finalists), corrected(budget, count), expected)


def corrected(budget: Budget, count: int) -> float:
    """The confidence of each of `count` tests at which they hold together at the budget's."""
    return 1.0 - (1.0 - budget.confidence) / count


def expected_misses(
    found: Screened, budget: Budget, judging_rows: int, confidence: float
) -> tuple[Miss, ...]:
    """What would be missed if the judging rows went as the choosing rows did."""
    lost, gained = _scaled(found.drop, judging_rows)
    bound = drop_upper_bound(lost, gained, judging_rows, confidence)
    expected = found.drop.model_copy(
        update={
            **{"rows": judging_rows, "lost": lost, "gained": gained},
            **{"upper_bound_ratio": bound, "confidence": confidence},
        }
    )
    # What is timed then is timed on as many of those rows.
    measurement = found.measurement.model_copy(update={"rows": min(judging_rows, TIMED_ROWS)})
    return misses(Figures(measurement, expected, found.quality, is_expected=True), budget)


def _lucky(found: Screened) -> Screened:
    """As if the choosing rows had been unkind by one standard error of the drop: a preferred
    candidate that passes only then is worth one of several tests, the last of which is safe."""
    drop = found.drop
    lost = max(drop.lost - math.sqrt(drop.lost + drop.gained), 0.0)
    return replace(found, drop=drop.model_copy(update={"lost": round(lost)}))


def _expected_drop(drop: PairedDrop, rows: int) -> float:
    lost, gained = _scaled(drop, rows)
    return drop_upper_bound(lost, gained, rows, drop.confidence)


def _scaled(drop: PairedDrop, rows: int) -> tuple[int, int]:
    return round(drop.lost * rows / drop.rows), round(drop.gained * rows / drop.rows)

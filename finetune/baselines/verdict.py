"""Which one to ship: the cheapest that is not below the best by more than the recipe allows."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgeloop.statistics import paired_drop
from finetune.evaluation.judged import HEADLINE, Judged
from finetune.evaluation.measure import difference, upper_bound

FINE_TUNED = "fine-tuned"


@dataclass(frozen=True)
class Verdict:
    """`bounds` (by name): how far below the best its figure is at most."""

    best: str
    ship: str
    bounds: dict[str, float]
    reason: str


def decide(task: str, judged: Mapping[str, Judged], max_drop: float, confidence: float) -> Verdict:
    """`judged` has the cheapest first and the same rows for all.

    All comparisons hold together at `confidence` (Bonferroni). The best is taken by its figure on
    the same rows, which flatters it: the bounds err on its side.
    """
    headline = HEADLINE[task][0]
    best = max(judged, key=lambda name: judged[name].figures[headline].value)
    each = 1.0 - (1.0 - confidence) / max(1, len(judged) - 1)
    bounds = {
        name: 0.0 if name == best else _bound(headline, judged[best], found, each)
        for name, found in judged.items()
    }
    ship = next(name for name in judged if bounds[name] <= max_drop)
    return Verdict(best, ship, bounds, _reason(task, judged, best, ship, bounds, max_drop))


def _bound(headline: str, best: Judged, other: Judged, confidence: float) -> float:
    if headline == "accuracy":
        return paired_drop(best.right, other.right, confidence).upper_bound_ratio
    lost = difference(best.figures[headline], other.figures[headline])
    return upper_bound(lost, confidence)


def _reason(
    task: str,
    judged: Mapping[str, Judged],
    best: str,
    ship: str,
    bounds: Mapping[str, float],
    max_drop: float,
) -> str:
    headline, words = HEADLINE[task]
    value = {name: found.figures[headline].value for name, found in judged.items()}
    if ship != best:
        why = (
            f"ship {ship}: its {words} of {value[ship]:.3f} is at most {100 * bounds[ship]:.1f} "
            f"points below the best ({best}, {value[best]:.3f}), within the "
            f"{100 * max_drop:g} points that compress.budget.max_accuracy_drop allows, and nothing "
            "cheaper keeps to that"
        )
    else:
        cheaper = [name for name in judged if name != best and _is_before(judged, name, best)]
        nearest = max(cheaper, key=lambda name: value[name], default=None)
        why = f"ship {ship}: it has the best {words}, {value[ship]:.3f}, and is the cheapest of all"
        if nearest is not None:
            why = (
                f"ship {ship}: it has the best {words}, {value[ship]:.3f}; the nearest that is "
                f"cheaper, {nearest} with {value[nearest]:.3f}, may be {100 * bounds[nearest]:.1f} "
                f"points below it, more than the {100 * max_drop:g} that "
                "compress.budget.max_accuracy_drop allows"
            )
    return f"{_worth(ship)}: {why}"


def _is_before(judged: Mapping[str, Judged], name: str, other: str) -> bool:
    order = list(judged)
    return order.index(name) < order.index(other)


def _worth(ship: str) -> str:
    return f"fine-tuning is {'' if ship == FINE_TUNED else 'not '}worth it here"

"""The budget as a contract: a figure that cannot be shown to keep to it does not keep to it.

Pure functions over records. MB are 1,000,000 bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgeloop.recipe import Budget
from edgeloop.records import Measurement, PairedDrop
from edgeloop.records_compress import Invariance
from edgeloop.records_measured import Quality
from edgeloop.statistics import quantile_rows_needed, rows_needed

BYTES_PER_MB = 1_000_000
# Where no bound exists at all: further from the limit than anything that is measured.
UNBOUNDED = 1e6


@dataclass(frozen=True)
class Miss:
    """A limit that is not shown to be kept: in words with the numbers, and by how much of the limit
    the figure exceeds it (0.1: by a tenth)."""

    text: str
    excess_ratio: float


@dataclass(frozen=True)
class Figures:
    """What was found out about a candidate, with the confidence that its bounds hold at.
    `is_expected`: the drop is not measured on its rows, but carried over from others.
    `invariance`: None where it was not looked at, or the model answers every text by itself."""

    measurement: Measurement
    accuracy: PairedDrop
    quality: Quality
    is_expected: bool = False
    invariance: Invariance | None = None


Check = Callable[[Figures, float], Miss | None]


def misses(figures: Figures, budget: Budget) -> tuple[Miss, ...]:
    """What keeps a candidate from the budget; () where it is shown to meet it."""
    found = (CHECKS[key](figures, limit) for key, limit in limits(budget).items())
    return tuple(miss for miss in found if miss is not None)


def limits(budget: Budget) -> dict[str, float]:
    """The budget's keys that are set, without the confidence."""
    return {
        key: float(value)
        for key, value in budget.model_dump(exclude={"confidence"}).items()
        if value is not None
    }


def excess_ratio(missed: tuple[Miss, ...]) -> float:
    """How far from the budget: the sum over what is missed; 0 where nothing is."""
    return sum(miss.excess_ratio for miss in missed)


def _latency(figures: Figures, limit: float) -> Miss | None:
    measured, confidence = figures.measurement, figures.accuracy.confidence
    needed = quantile_rows_needed(0.95, confidence)
    if measured.rows < needed:
        return Miss(
            f"latency_p95_ms cannot be bounded at {_percent(confidence)} with {measured.rows} "
            f"texts, {needed} are needed; add test or reference rows",
            UNBOUNDED,
        )
    bound = measured.latency_p95_ms
    if bound.high <= limit:
        return None
    found = f"{bound.high:.2f} ({_percent(confidence)} upper bound; measured {bound.value:.2f})"
    return Miss(f"latency_p95_ms {found} > {limit:g}", bound.high / limit - 1.0)


def _size(figures: Figures, limit: float) -> Miss | None:
    size_mb = figures.measurement.size_bytes / BYTES_PER_MB
    if size_mb <= limit:
        return None
    return Miss(f"size_mb {size_mb:.2f} > {limit:g}", size_mb / limit - 1.0)


def _memory(figures: Figures, limit: float) -> Miss | None:
    rss_mb = figures.measurement.rss_bytes / BYTES_PER_MB
    if rss_mb <= limit:
        return None
    return Miss(f"rss_mb {rss_mb:.1f} > {limit:g}", rss_mb / limit - 1.0)


def _drop(figures: Figures, limit: float) -> Miss | None:
    accuracy = figures.accuracy
    bound, confidence = accuracy.upper_bound_ratio, accuracy.confidence
    if bound <= limit:
        return None
    said = (
        f"max_accuracy_drop {bound:.4f} ({_percent(confidence)} upper bound; "
        f"{'expected' if figures.is_expected else 'measured'} {accuracy.drop_ratio:.4f}: lost "
        f"{accuracy.lost}, gained {accuracy.gained} of {accuracy.rows} rows) > {limit:g}"
    )
    if figures.is_expected:
        return Miss(said, bound / limit - 1.0)
    margin = limit - max(accuracy.drop_ratio, 0.0)
    if margin > 0.0:
        discordant_ratio = (accuracy.lost + accuracy.gained) / accuracy.rows
        needed = rows_needed(discordant_ratio, min(margin, 0.999), confidence)
        needed = max(needed, accuracy.rows + 1)
        said += f"; at this rate of changed answers about {needed} rows could show it"
    return Miss(said, bound / limit - 1.0)


def _class(figures: Figures, limit: float) -> Miss | None:
    """As measured: a bound for a class of a few rows would say nothing."""
    worst = figures.quality.worst_recall
    if worst is None or worst.recall_drop <= limit:
        return None
    said = (
        f"max_class_drop {worst.recall_drop:.3f} ({worst.name}: recall {worst.recall:.3f}, was "
        f"{worst.merged_recall:.3f}, {worst.support} rows) > {limit:g}"
    )
    return Miss(said, worst.recall_drop / limit - 1.0)


def _slice(figures: Figures, limit: float) -> Miss | None:
    """As measured, like a class."""
    worst = figures.quality.worst_slice
    if worst is None or worst.drop <= limit:
        return None
    said = (
        f"max_slice_drop {worst.drop:.3f} ({worst.name}: accuracy {worst.accuracy:.3f}, was "
        f"{worst.merged_accuracy:.3f}, {worst.rows} rows) > {limit:g}"
    )
    return Miss(said, worst.drop / limit - 1.0)


def _flips(figures: Figures, limit: float) -> Miss | None:
    """As measured, on the texts that were tried."""
    found = figures.invariance
    if found is None:
        return None
    changes = {"a batch": found.batch, "padding": found.padding, "more threads": found.threads}
    worst = max(changes, key=lambda name: changes[name].flips)
    flips = changes[worst].flips
    ratio = flips / found.rows
    if ratio <= limit:
        return None
    said = f"max_flip_ratio {ratio:.3f} ({flips} of {found.rows} texts with {worst}) > {limit:g}"
    return Miss(said, ratio / limit - 1.0 if limit > 0.0 else float(flips))


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.4g}%"


CHECKS: dict[str, Check] = {
    "latency_p95_ms": _latency,
    "size_mb": _size,
    "rss_mb": _memory,
    "max_accuracy_drop": _drop,
    "max_class_drop": _class,
    "max_slice_drop": _slice,
    "max_flip_ratio": _flips,
}

"""The budget as a contract: a figure that cannot be shown to keep to it does not keep to it.

Pure functions over records. MB are 1,000,000 bytes.
"""

from collections.abc import Callable, Sequence

from edgeloop.recipe import Budget
from edgeloop.records import Candidate, Measurement, PairedDrop
from edgeloop.statistics import quantile_rows_needed, rows_needed

BYTES_PER_MB = 1_000_000

Check = Callable[[Measurement, PairedDrop, float, float], str | None]


def misses(measurement: Measurement, accuracy: PairedDrop, budget: Budget) -> tuple[str, ...]:
    """What keeps a candidate from the budget, in words with the numbers; () where it meets it.

    Raises ValueError where the figures were taken at another confidence than the budget's.
    """
    if accuracy.confidence != budget.confidence:
        raise ValueError(f"figures at {accuracy.confidence}, budget at {budget.confidence}")
    found = []
    for key, limit in limits(budget).items():
        miss = CHECKS[key](measurement, accuracy, limit, budget.confidence)
        if miss is not None:
            found.append(f"{key} {miss}")
    return tuple(found)


def limits(budget: Budget) -> dict[str, float]:
    """The budget's keys that are set, without the confidence."""
    return {
        key: float(value)
        for key, value in budget.model_dump(exclude={"confidence"}).items()
        if value is not None
    }


def choose(candidates: Sequence[Candidate]) -> Candidate | None:
    """The smallest candidate that misses nothing; None where every one misses something."""
    met = [candidate for candidate in candidates if not candidate.misses]
    return min(met, key=lambda candidate: candidate.measurement.size_bytes, default=None)


def _latency(measured: Measurement, _: PairedDrop, limit: float, confidence: float) -> str | None:
    needed = quantile_rows_needed(0.95, confidence)
    if measured.rows < needed:
        return (
            f"cannot be bounded at {100 * confidence:g}% with {measured.rows} texts, {needed} are "
            "needed; add test or reference rows"
        )
    bound = measured.latency_p95_ms
    if bound.high <= limit:
        return None
    found = f"{bound.high:.2f} ({100 * confidence:g}% upper bound; measured {bound.value:.2f})"
    return f"{found} > {limit:g}"


def _size(measured: Measurement, _: PairedDrop, limit: float, __: float) -> str | None:
    size_mb = measured.size_bytes / BYTES_PER_MB
    return None if size_mb <= limit else f"{size_mb:.2f} > {limit:g}"


def _memory(measured: Measurement, _: PairedDrop, limit: float, __: float) -> str | None:
    rss_mb = measured.rss_bytes / BYTES_PER_MB
    return None if rss_mb <= limit else f"{rss_mb:.1f} > {limit:g}"


def _drop(_: Measurement, accuracy: PairedDrop, limit: float, confidence: float) -> str | None:
    if accuracy.upper_bound_ratio <= limit:
        return None
    said = (
        f"{accuracy.upper_bound_ratio:.4f} ({100 * confidence:g}% upper bound; measured "
        f"{accuracy.drop_ratio:.4f}: lost {accuracy.lost}, gained {accuracy.gained} of "
        f"{accuracy.rows} rows) > {limit:g}"
    )
    margin = limit - max(accuracy.drop_ratio, 0.0)
    if margin <= 0.0:
        return said
    discordant_ratio = (accuracy.lost + accuracy.gained) / accuracy.rows
    needed = max(rows_needed(discordant_ratio, min(margin, 0.999), confidence), accuracy.rows + 1)
    return f"{said}; at this rate of changed answers about {needed} rows could show it"


CHECKS: dict[str, Check] = {
    "latency_p95_ms": _latency,
    "size_mb": _size,
    "rss_mb": _memory,
    "max_accuracy_drop": _drop,
}
